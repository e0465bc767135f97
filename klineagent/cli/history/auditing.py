"""`klineagent audit`: compares what is stored with the files that were imported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import click
import msgspec

from klineagent.cli.history.progress import MOST_LISTED
from klineagent.cli.options import VENUE
from klineagent.cli.remote.options import complete_symbols
from klineagent.cli.running import run
from klineagent.cli.sql.selection import Asked, read_asked
from klineagent.cli.sql.snapshot import demand_an_engine, is_in_use
from klineagent.cli.sql.source import Source, from_a_store, of_series
from klineagent.cli.tables import clock_text
from klineagent.core.errors import StartError, StoreMisconfigured
from klineagent.core.interval import Interval
from klineagent.history.archive.files import ArchivedSeries
from klineagent.history.auditing import Auditor, AuditSummary, DayFinding
from klineagent.history.plan import Range
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.storage.opening import open_store
from klineagent.storage.url import FolderLocation


@click.command()
@click.argument("names", nargs=-1, metavar="[SYMBOL|PATTERN]...", shell_complete=complete_symbols)
@of_series("Audit days that begin")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each finding.")
@VENUE
@from_a_store
def audit(
    names: Sequence[str],
    as_json: bool,
    *,
    intervals: Sequence[Interval],
    span: tuple[int, int],
    source: Source,
) -> None:
    """Compare what is stored with the files that were imported, day by day and without a download.

    It covers all symbols, or SYMBOLs and those that match PATTERNs. Exit code 1: on some
    days candles are missing or differ from their files.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.WARNING)
    location = source.location
    if isinstance(location, FolderLocation):
        if is_in_use(location.folder):
            raise StoreMisconfigured(
                f"{location.label} is in use: an agent records into it; stop it to audit, for only"
                " one process can have it open"
            )
        demand_an_engine(location.folder)
    asked = read_asked(names, source.config.venue)
    chosen = {each.value for each in intervals}
    summary = run(partial(_audit, source, asked, chosen, span, as_json=as_json))
    if as_json:
        _print_json("done", summary)
    else:
        _print(summary)
    if summary.findings:
        click.get_current_context().exit(1)


async def _audit(
    source: Source, asked: Sequence[Asked], intervals: set[str], span: Range, *, as_json: bool
) -> AuditSummary:
    config = source.config
    async with open_store(config.store, config.ca_file, may_create=False) as store:
        stored = [(each.venue, each.symbol, each.interval) for each in await store.summary()]
        series = [
            ArchivedSeries(venue, symbol, Interval(interval))
            for venue, symbol, interval in stored
            if (not asked or any(each.matches((venue, symbol, interval)) for each in asked))
            and (not intervals or interval in intervals)
        ]
        if not series:
            raise StartError("no closed candle of such a series is stored")
        found = partial(_print_json, "finding") if as_json else _ignore
        return await Auditor(store=store, found=found).audit(series, span)


def _ignore(_: DayFinding) -> None:
    return None


def _print_json(event: str, value: DayFinding | AuditSummary) -> None:
    def write(each: object) -> object:
        return str(each)

    plain = msgspec.to_builtins(value, enc_hook=write)
    if isinstance(value, AuditSummary):
        plain["findings"] = len(value.findings)
    click.echo(msgspec.json.encode({"event": event, **plain}).decode())


def _print(summary: AuditSummary) -> None:
    click.echo(
        f"{summary.candles} candles of {summary.series} series compared with {summary.days} days of"
        f" files: {len(summary.findings) or 'no'} finding{'s' * (len(summary.findings) != 1)}"
    )
    for finding in summary.findings[:MOST_LISTED]:
        click.echo(
            f"{finding.series} {clock_text(finding.day_ms)[:10]}: {finding.fault}"
            f" ({finding.rows} stored, {finding.file_rows} in {finding.path})"
        )
    if len(summary.findings) > MOST_LISTED:
        click.echo(f"... and {len(summary.findings) - MOST_LISTED} more")
