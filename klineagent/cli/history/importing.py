"""`klineagent import`: brings the exchange's archive into the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import urlsplit

import click
from attrs import field, frozen
from click.core import ParameterSource

from klineagent.api.guard import is_loopback
from klineagent.api.models.jobs import JobBody
from klineagent.cli.history.progress import open_progress
from klineagent.cli.options import VENUE, read_time, setting
from klineagent.cli.remote.jobs import import_by_agent
from klineagent.cli.remote.options import complete_intervals
from klineagent.cli.running import run
from klineagent.cli.sql.selection import read_asked
from klineagent.cli.sql.snapshot import is_in_use
from klineagent.cli.sql.source import Source, from_a_store
from klineagent.cli.tables import clock_text
from klineagent.config.converters import to_intervals
from klineagent.core.errors import ConfigError, StoreMisconfigured
from klineagent.core.interval import SECOND_MS, Interval
from klineagent.exchange.network import Internet
from klineagent.exchange.venues import VENUES
from klineagent.history.archive.place import PUBLIC, open_archive
from klineagent.history.exchanges import VenueExchange, open_exchange_of
from klineagent.history.importing import Importer
from klineagent.history.survey import AskedSymbol, ImportRequest
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.storage.opening import open_store
from klineagent.storage.reader import END_MS
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
    "--to", "until", metavar="TIME", help="Import days that begin before TIME.  [default: now]"
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
@setting(
    "rest_url", "REST URL instead of the default venue's, or VENUE's.", "[VENUE=]URL", repeated=True
)
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

    Months come first, newest first, then days missing in them, then the exchange is asked for the
    rest, up to now. Candles that are stored already stay as they are. What was interrupted goes on
    when the command is run again. With --agent a running agent does it beside recording, into its
    own database; on Ctrl-C it goes on. Exit code 1: candles are missing, and are listed.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.WARNING)
    asked = [
        AskedSymbol(each.venue, each.symbol) for each in read_asked(names, source.config.venue)
    ]
    request = ImportRequest(
        asked=asked,
        intervals=_read_intervals(chosen, asked),
        first_ms=read_time(since, "--from"),
        end_ms=read_time(until, "--to") or END_MS,
    )
    if request.first_ms is not None and request.first_ms >= request.end_ms:
        raise ConfigError(f"--from {since} is not before --to {until}")
    if _is_typed("url"):
        _demand_nothing_of_the_agent(is_dry_run=dry_run)
        order = JobBody(
            kind="import",
            symbols=[f"{each.venue}:{each.symbol}" for each in asked],
            intervals=[each.value for each in request.intervals],
            from_="" if request.first_ms is None else str(request.first_ms),
            to="" if until is None else str(request.end_ms),
            rest=not no_rest,
        )
        import_by_agent(source.address, order, as_json=as_json)
        return
    location = source.location
    if isinstance(location, FolderLocation) and is_in_use(location.folder):
        raise StoreMisconfigured(
            f"{location.label} is in use: an agent records into it; let it import, with"
            f" --agent {source.address.url}, or stop it"
        )
    options = ImportOptions(place, asks_exchange=not no_rest, is_dry_run=dry_run, as_json=as_json)
    try:
        is_whole = run(partial(_import, source, request, options))
    except KeyboardInterrupt:
        click.echo("klineagent: interrupted; run the same command again to go on", err=True)
        raise
    if not is_whole:
        click.get_current_context().exit(1)


def _is_typed(parameter: str) -> bool:
    """Whether an option was given on the command line, so not only by the environment."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.COMMANDLINE


def _demand_nothing_of_the_agent(*, is_dry_run: bool) -> None:
    """Refuse options that a running agent has decided already."""
    if is_dry_run:
        raise ConfigError("--dry-run cannot be used with --agent: try it without")
    for parameter in ("place", "rest_url", "store"):
        if _is_typed(parameter):
            option = {"place": "archive_url"}.get(parameter, parameter).replace("_", "-")
            raise ConfigError(f"--{option} cannot be used with --agent: the agent uses its own")


@frozen
class ImportOptions:
    """How an import is done."""

    place: str
    """Where the archive is."""
    asks_exchange: bool = field(kw_only=True)
    is_dry_run: bool = field(kw_only=True)
    as_json: bool = field(kw_only=True)


def _read_intervals(chosen: str, asked: Sequence[AskedSymbol]) -> list[Interval]:
    venues = [VENUES[name] for name in dict.fromkeys(each.venue for each in asked)]
    try:
        return [*to_intervals(chosen, venues)]
    except ValueError as error:
        raise ConfigError(f"--intervals: {error}") from error


async def _import(source: Source, request: ImportRequest, options: ImportOptions) -> bool:
    """Run an import; return whether nothing is missing."""
    config = source.config
    network = Internet(config.ca_file)
    names = {each.venue for each in request.asked} if options.asks_exchange else set[str]()
    venues = [venue for venue in VENUES.values() if venue.name in names]
    urls = [config.rest_url_of(venue) for venue in venues]
    is_simulated = any(is_loopback(urlsplit(url).hostname or "") for url in urls)
    with open_progress(as_json=options.as_json) as progress:
        async with (
            open_archive(options.place, network, waits=progress.waits) as archive,
            open_exchange_of(
                venues, config.rest_url_of, network, is_simulated=is_simulated
            ) as exchanges,
            open_store(config.store, config.ca_file) as store,
        ):
            for venue in names - exchanges.keys():
                click.echo(
                    f"klineagent: {venue} does not answer: only files are imported", err=True
                )
            now_ms = _clock(exchanges)
            if request.first_ms is not None and request.first_ms >= now_ms():
                raise ConfigError(f"--from {clock_text(request.first_ms)} is in the future")
            importer = Importer(
                archive=archive,
                exchanges=exchanges,
                store=store,
                request=request,
                report=progress.report,
                now_ms=now_ms,
            )
            await importer.plan()
            if options.is_dry_run:
                return True
            summary = await importer.run()
        progress.end(summary)
    return summary.is_whole


def _clock(exchanges: Mapping[str, VenueExchange]) -> Callable[[], int]:
    """Return the clock of an exchange, or of this machine if none answers."""
    for exchange in exchanges.values():
        return exchange.rest.time.now_ms
    return lambda: int(time.time() * SECOND_MS)
