"""`klineagent show`: prints what is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import click
from rich.table import Table

from klineagent.cli.options import VENUE, read_interval, read_symbol, read_time
from klineagent.cli.running import run
from klineagent.cli.sql.engine import open_engine
from klineagent.cli.sql.snapshot import demand_an_engine, needs_agent, open_snapshot
from klineagent.cli.sql.source import Source, from_a_store
from klineagent.cli.tables import candles_table, summary_table, updates_table, wide_console
from klineagent.core.errors import ConfigError, StartError
from klineagent.core.kline import Kline, SeriesName
from klineagent.exchange.venues import split_name
from klineagent.process.logs import LogFormat, configure_logging
from klineagent.storage.opening import open_store
from klineagent.storage.reader import KlineRange
from klineagent.storage.store import Store
from klineagent.storage.url import FolderLocation

_COUNT = click.IntRange(min=1)
_NEWEST = 10


@click.command()
@click.argument("symbol", required=False)
@click.argument("interval", required=False, default="1m")
@click.option(
    "--last",
    type=_COUNT,
    metavar="N",
    help=f"Show the newest N candles.  [default: {_NEWEST}; all between --from and --to]",
)
@click.option("--from", "since", metavar="TIME", help="Show candles that open at TIME or later.")
@click.option("--to", "until", metavar="TIME", help="Show candles that open before TIME.")
@click.option(
    "--source", "with_source", is_flag=True, help="Also show where each candle came from."
)
@click.option("--updates", is_flag=True, help="Show every stored state (needs serve --updates).")
@VENUE
@from_a_store
def show(
    symbol: str | None,
    interval: str,
    last: int | None,
    since: str | None,
    until: str | None,
    with_source: bool,
    updates: bool,
    *,
    source: Source,
) -> None:
    """Show what is stored: all series, or the newest closed candles of SYMBOL at INTERVAL.

    A SYMBOL may name its venue, as in spot:BTCUSDT; otherwise it is one of --venue. Without
    --venue, series of all venues are listed. What an agent records at the moment is shown, too.
    """
    configure_logging(LogFormat.CONSOLE)
    config = source.config
    venue, name = split_name("" if symbol is None else read_symbol(symbol), config.venue)
    wanted = read_interval(interval, venue)
    first_ms, end_ms = read_time(since, "--from"), read_time(until, "--to")
    is_range = first_ms is not None or end_ms is not None
    if first_ms is not None and end_ms is not None and first_ms >= end_ms:
        raise ConfigError(f"--from {since} is not before --to {until}")
    if symbol is None and (updates or is_range):
        raise ConfigError(f"{'--updates' if updates else 'a range of time'} needs a SYMBOL")
    if updates and is_range:
        raise ConfigError("--updates shows the newest states; leave out --from and --to")
    if symbol is None:
        # The default venue is where one series is looked up; it does not filter the list.
        table = partial(_series, venue=config.venue.name if "venue" in source.given else None)
    else:
        series = (venue.name, name, wanted.value)
        if updates:
            table = partial(_updates, series=series, newest=last or _NEWEST)
        else:
            bounds = {"first_ms": first_ms, "end_ms": end_ms}
            candles = KlineRange(
                venue=venue.name,
                symbol=name,
                interval=wanted.value,
                is_newest_first=True,
                limit=last or (None if is_range else _NEWEST),
                **{name: time_ms for name, time_ms in bounds.items() if time_ms is not None},
            )
            table = partial(_candles, wanted=candles, with_source=with_source, is_range=is_range)
    with _open_location(source) as (url, label):
        run(partial(_show, url, config.ca_file, partial(table, label=label)))


@contextmanager
def _open_location(source: Source) -> Iterator[tuple[str, str]]:
    """Have the URL of a store to open, and its label: a copy of the tables if an agent has them."""
    location = source.location
    if isinstance(location, FolderLocation):
        if needs_agent(source, location):
            with (
                open_snapshot(source, location) as readable,
                open_engine(readable.frozen, readable.label) as engine,
            ):
                yield FolderLocation(folder=engine.folder).label, readable.label
            return
        demand_an_engine(location.folder)
    yield source.config.store, location.label


async def _show(
    url: str, ca_file: str | None, make_table: Callable[[Store], Awaitable[Table]]
) -> None:
    async with open_store(url, ca_file, may_create=False) as store:
        wide_console().print(await make_table(store))


async def _series(store: Store, *, label: str, venue: str | None) -> Table:
    summary = [each for each in await store.summary() if venue in {None, each.venue}]
    if venue is not None and not summary:
        raise StartError(f"no closed candle on {venue} is stored")
    return summary_table(summary, title=f"Stored in {label}")


async def _candles(
    store: Store,
    *,
    label: str,
    wanted: KlineRange,
    with_source: bool,
    is_range: bool,
) -> Table:
    klines: list[Kline] = []
    rest: KlineRange | None = wanted
    while rest is not None:
        rows, rest = await store.reader.read(rest)
        klines += rows
    what = "closed candle in that range of time" if is_range else "closed candle"
    title = await _title(store, wanted.series, what, klines)
    return candles_table(klines[::-1], title=title, with_source=with_source)


async def _updates(store: Store, *, label: str, series: SeriesName, newest: int) -> Table:
    klines = await store.updates(*series, newest=newest)
    return updates_table(klines, title=await _title(store, series, "update", klines))


async def _title(store: Store, series: SeriesName, what: str, klines: Sequence[Kline]) -> str:
    """Return the title of the table of `klines`.

    Raises:
        StartError: there are none.
    """
    venue, symbol, interval = series
    name = f"{symbol} {interval} on {venue}"
    if not klines:
        raise StartError(f"no {what} of {name} is stored{await _elsewhere(store, series)}")
    return f"{name}, times in UTC"


async def _elsewhere(store: Store, series: SeriesName) -> str:
    """Return a hint at other venues that have candles of this series; empty if none has."""
    venue, *name = series
    venues = [
        each.venue
        for each in await store.summary()
        if each.venue != venue and [each.symbol, each.interval] == name
    ]
    if not venues:
        return ""
    return f"; it is stored on {' and '.join(venues)}: show {venues[0]}:{name[0]}"
