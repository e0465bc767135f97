"""`klineagent import`: brings the exchange's archive into the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import click

from klineagent.cli.history.progress import open_progress
from klineagent.cli.options import VENUE, read_time
from klineagent.cli.remote.options import complete_intervals
from klineagent.cli.running import run
from klineagent.cli.sql.selection import read_asked
from klineagent.cli.sql.snapshot import is_in_use
from klineagent.cli.sql.source import Source, from_a_store
from klineagent.config.converters import to_intervals
from klineagent.core.errors import ConfigError, StoreMisconfigured
from klineagent.core.interval import SECOND_MS, Interval
from klineagent.exchange.network import Internet
from klineagent.exchange.venues import VENUES
from klineagent.history.archive import PUBLIC, open_archive
from klineagent.history.importing import Importer
from klineagent.history.survey import AskedSymbol, ImportRequest
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.storage.opening import open_store
from klineagent.storage.url import FolderLocation

_DEFAULT_INTERVALS = "1m"


@click.command("import")
@click.argument("names", nargs=-1, required=True, metavar="SYMBOL|PATTERN...")
@click.option(
    "--intervals",
    "chosen",
    default=_DEFAULT_INTERVALS,
    show_default=True,
    metavar="1m,5m,...",
    help="Intervals to import.",
    shell_complete=complete_intervals,
)
@click.option(
    "--from",
    "since",
    metavar="TIME",
    help="Import days from TIME on.  [default: all that the archive has]",
)
@click.option(
    "--to", "until", metavar="TIME", help="Import candles that open before TIME.  [default: now]"
)
@click.option(
    "--archive-url",
    "place",
    default=PUBLIC,
    show_default=True,
    envvar="KLINEAGENT_ARCHIVE_URL",
    metavar="URL|DIR",
    help="The archive, or a folder that mirrors it.",
)
@click.option("--no-rest", is_flag=True, help="Do not ask the exchange for what no file has.")
@click.option("--dry-run", is_flag=True, help="Only say what there is to do.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each event.")
@VENUE
@from_a_store
def import_(
    names: Sequence[str],
    chosen: str,
    since: str | None,
    until: str | None,
    place: str,
    no_rest: bool,
    dry_run: bool,
    as_json: bool,
    *,
    source: Source,
) -> None:
    """Import the past of SYMBOLs, and of all symbols that match PATTERNs, from the archive.

    Months come first, newest first, then days that they lack, then the exchange is asked for the
    rest, up to now. Candles that are stored already stay as they are. What was interrupted goes on
    when the command is run again. Exit code 1: candles are missing, and are listed.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.WARNING)
    now_ms = int(time.time() * SECOND_MS)
    first_ms, end_ms = read_time(since, "--from"), read_time(until, "--to")
    end_ms = now_ms if end_ms is None else min(end_ms, now_ms)
    if first_ms is not None and first_ms >= end_ms:
        raise ConfigError(f"--from {since} is not before {'now' if until is None else '--to'}")
    asked = [
        AskedSymbol(each.venue, each.symbol) for each in read_asked(names, source.config.venue)
    ]
    request = ImportRequest(
        asked=asked, intervals=_read_intervals(chosen, asked), first_ms=first_ms, end_ms=end_ms
    )
    location = source.location
    if isinstance(location, FolderLocation) and is_in_use(location.folder):
        raise StoreMisconfigured(
            f"{location.label} is in use: an agent records into it; stop it to import, for only one"
            " process can have it open"
        )
    is_whole = run(partial(_import, source, request, place, dry_run=dry_run, as_json=as_json))
    if not is_whole:
        click.get_current_context().exit(1)


def _read_intervals(chosen: str, asked: Sequence[AskedSymbol]) -> list[Interval]:
    venues = [VENUES[name] for name in dict.fromkeys(each.venue for each in asked)]
    try:
        return [*to_intervals(chosen, venues)]
    except ValueError as error:
        raise ConfigError(f"--intervals: {error}") from error


async def _import(
    source: Source, request: ImportRequest, place: str, *, dry_run: bool, as_json: bool
) -> bool:
    """Run an import; return whether nothing is missing."""
    config = source.config
    network = Internet(config.ca_file)
    with open_progress(as_json=as_json) as progress:
        async with (
            open_archive(place, network, waits=progress.waits) as archive,
            open_store(config.store, config.ca_file) as store,
        ):
            importer = Importer(
                archive=archive,
                store=store,
                request=request,
                report=progress.report,
                now_ms=lambda: int(time.time() * SECOND_MS),
            )
            await importer.plan()
            if dry_run:
                return True
            summary = await importer.run()
        progress.end(summary)
    return summary.is_whole
