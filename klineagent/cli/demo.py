"""`klineagent demo`: exchange twin, agent and database in one process, on real sockets."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
import httpx2
import trio
from attrs import define, evolve, field, frozen
from rich.console import Console
from rich.live import Live

from klineagent.agent import Agent, open_agent
from klineagent.cli.options import INTERVALS
from klineagent.cli.running import run
from klineagent.cli.simulate import (
    ARCHIVE,
    FAULT,
    POSITIVE,
    SEED,
    SPEED_HELP,
    SYMBOL_COUNT,
    read_venues,
)
from klineagent.cli.tables import arrivals_table, summary_table, wide_console
from klineagent.config.loading import load_config
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError, KlineagentError
from klineagent.core.interval import BY_LENGTH, DAY_MS, GRIDS, MINUTE_MS
from klineagent.core.kline import Kline
from klineagent.exchange.venues import VENUES, full_name
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.process.signals import StopSignal, open_stop_signal
from klineagent.storage.opening import open_store
from klineagent.twin.archive.archive import PATH as ARCHIVE_PATH
from klineagent.twin.archive.archive import archive_of
from klineagent.twin.exchange import open_market
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.faults.options import FaultOption, open_faults, parse_fault
from klineagent.twin.market.market import Market
from klineagent.twin.server import serve_exchange

LOOPBACK = "127.0.0.1"
SECONDS = 20.0
"""How long it records without a terminal, where Ctrl-C cannot be pressed."""
INTERVALS_SHOWN = "1m,5m,15m,1h"
PAST_MS = 6 * DAY_MS
"""How far back candles of the longest interval are fetched: a second of work for six symbols."""
MOST_HISTORY = 1_000
LOOK_EVERY_S = 0.25
"""How often the terminal is redrawn."""
PRINT_EVERY_S = 2.0
"""How often a line is printed where there is no terminal."""
SHOWN_SYMBOLS = 12


@click.command()
@click.option(
    "--seconds",
    type=POSITIVE,
    metavar="N",
    help="How long to record.  [default: until Ctrl-C; 20 without a terminal]",
)
@click.option(
    "--symbols",
    default=3,
    show_default=True,
    type=SYMBOL_COUNT,
    metavar="N",
    help="How many symbols to record of each venue.",
)
@click.option(
    "--speed", default=60.0, show_default=True, type=POSITIVE, metavar="X", help=SPEED_HELP
)
@ARCHIVE
@SEED
@FAULT
@INTERVALS
@click.option(
    "--venues",
    metavar="VENUE,...",
    help="Venues to record.  [default: usdm,spot; of an archive usdm]",
)
@click.option("--venue", type=click.Choice(list(VENUES)), help="The same for one venue.")
@click.option("--store", help="Database to record into.  [default: a temporary folder]")
def demo(
    seconds: float | None,
    symbols: int,
    speed: float,
    archive: Path | None,
    seed: int,
    faults: tuple[str, ...],
    venues: str | None,
    venue: str | None,
    **options: object,
) -> None:
    """Try it all in one process: simulated exchange, agent and database.

    Look at it in a browser while it runs. After --seconds, or on Ctrl-C, it prints what the
    database holds.
    """
    configure_logging(LogFormat.CONSOLE, shown=LogLevel.WARNING)
    if venue and venues:
        raise ConfigError("--venue cannot be used with --venues, which names all of them")
    names = read_venues(venues or venue or ("usdm,spot" if archive is None else "usdm"))
    now_ms = time.time_ns() // 1_000_000
    options["intervals"] = options["intervals"] or INTERVALS_SHOWN
    config = load_config({**options, "venue": names[0]}, {}, None)
    longest_ms = max(GRIDS[each.value].longest_ms for each in config.intervals)
    history = min(MOST_HISTORY, PAST_MS // longest_ms)
    shown = Demo(
        config=evolve(config, history=history),
        keeps=options["store"] is not None,
        markets={
            name: open_market(
                archive=archive,
                symbols=symbols,
                seed=seed,
                venue_name=name,
                start_ms=now_ms,
                history_ms=history * longest_ms + DAY_MS,
            )
            for name in names
        },
        most_symbols=symbols,
        seconds=seconds or (math.inf if sys.stdout.isatty() else SECONDS),
        speed=speed,
        faults=[parse_fault(text, names) for text in faults],
    )
    shown.make_past(now_ms - history * longest_ms, now_ms)
    run(partial(run_demo, shown))


@frozen(kw_only=True)
class Demo:
    """What the demonstration records, and for how long."""

    config: Config
    keeps: bool
    """Whether rows stay in the store of `config`; otherwise they go to a temporary folder."""
    markets: Mapping[str, Market]
    """By venue, the agent's default first."""
    most_symbols: int
    """How many symbols of each are recorded."""
    seconds: float
    speed: float
    faults: Sequence[FaultOption] = ()
    """What goes wrong at the exchange."""

    def make_past(self, first_ms: int, end_ms: int) -> None:
        """Make the minutes from before the start, which the markets keep.

        Made while the agent fetches them, they would hold up the exchange, and candles be late.
        """
        for market in self.markets.values():
            for listing in market.listings[: self.most_symbols]:
                for open_ms in range(first_ms - first_ms % MINUTE_MS, end_ms, MINUTE_MS):
                    market.minute(listing.symbol, open_ms)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of all venues, as an agent is told them."""
        return tuple(
            full_name(VENUES[name], listing.symbol, self.config.venue)
            for name, market in self.markets.items()
            for listing in market.listings[: self.most_symbols]
        )


async def run_demo(demo: Demo) -> None:
    """Record from the twin for a while, then show what the database holds.

    Raises:
        KlineagentError: a part could not be started, or no candle was stored.
    """
    console = wide_console()
    async with (
        # First: a signal that came earlier would leave the temporary folder behind.
        open_stop_signal() as stop,
        _storing(demo) as config,
        open_store(config.store) as store,
    ):
        async with (
            _open_twin(demo) as ports,
            open_agent(_recording(config, demo.symbols, ports), store=store) as agent,
        ):
            console.print(f"Look at it: {agent.dashboard}", soft_wrap=True)
            console.print(
                f"A simulated exchange trades at {demo.speed:g} times real time; the agent records"
                f" {agent.venues.count()} streams of {len(demo.symbols)} symbols of"
                f" {' and '.join(demo.markets)} into"
                f" {store.label} and answers at http://{agent.command_bind}/status",
                soft_wrap=True,  # addresses can be copied whole
            )
            console.print(_how_to_read(agent), soft_wrap=True)
            await _watch(console, agent, stop, demo.seconds)
        # The agent has stopped and drained; this reads the database it wrote.
        series = await store.summary()
        if not series:
            raise KlineagentError("no candle was stored; raise --seconds or --speed")
        console.print(summary_table(series, title=f"Read back from {store.label}"))
        console.print(f"{sum(each.closed for each in series)} closed candles stored")


@asynccontextmanager
async def _storing(demo: Demo) -> AsyncIterator[Config]:
    """Yield the configuration with its store: the user's, or a temporary one deleted at the end."""
    if demo.keeps:
        yield demo.config
        return
    with tempfile.TemporaryDirectory(prefix="klineagent-demo-") as folder:
        # In a subfolder, so that the agent's spool beside it is deleted, too.
        yield evolve(demo.config, store=f"chdb://{folder}/data")


async def _watch(console: Console, agent: Agent, stop: StopSignal, seconds: float) -> None:
    """Show arriving candles until the time is over or Ctrl-C is pressed."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as watching:
            watching.start_soon(_show, console, agent)
            await stop.wait()
            watching.cancel_scope.cancel(reason="Ctrl-C")


@asynccontextmanager
async def _open_twin(demo: Demo) -> AsyncIterator[Mapping[str, int]]:
    """Serve the exchange twin on loopback, and yield the ports by venue."""
    async with (
        open_exchanges(demo.markets, speed=demo.speed) as exchanges,
        AsyncExitStack() as struck,
    ):
        for exchange in exchanges.values():
            await struck.enter_async_context(open_faults(exchange, demo.faults))
        async with trio.open_nursery() as nursery:
            ports, serve = {}, partial(serve_exchange, archive=archive_of(exchanges))
            for name, exchange in exchanges.items():
                _, ports[name] = await nursery.start(serve, exchange, LOOPBACK, 0)
            yield ports
            nursery.cancel_scope.cancel(reason="the demonstration is over")


def _recording(config: Config, symbols: tuple[str, ...], ports: Mapping[str, int]) -> Config:
    """Return the configuration of an agent that records from the twin at `ports`."""
    # The path of the venue's own URL stays: on USD-M klines are under /market.
    paths = {name: httpx2.URL(VENUES[name].ws_url).path.rstrip("/") for name in ports}
    return evolve(
        config,
        symbols=symbols,
        max_symbols=len(symbols),
        ws_url={name: f"ws://{LOOPBACK}:{port}{paths[name]}" for name, port in ports.items()},
        rest_url={name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()},
        archive_url=f"http://{LOOPBACK}:{ports[config.venue.name]}{ARCHIVE_PATH}",
        command_bind=Bind(LOOPBACK, 0),
        status_bind=Bind(LOOPBACK, 0),
        read_bind=Bind(LOOPBACK, 0),
        state="none",
    )


@define(eq=False)
class _Newest:
    """Keeps the newest row of each symbol, at its shortest interval: that one moves most."""

    rows: dict[tuple[str, str], Kline] = field(factory=dict, init=False)

    def put(self, klines: Sequence[Kline]) -> None:
        """See `Subscriber`."""
        for kline in klines:
            series = kline.venue, kline.symbol
            self.rows[series] = max(kline, self.rows.get(series, kline), key=_rank)


def _rank(kline: Kline) -> tuple[int, int, int]:
    return -BY_LENGTH[kline.interval], kline.open_time, kline.version


async def _show(console: Console, agent: Agent) -> NoReturn:
    """Show the newest candles until cancelled; print lines where there is no terminal."""
    if not console.is_terminal:
        while True:
            await trio.sleep(PRINT_EVERY_S)
            console.print(_progress(agent))
    newest, default = _Newest(), agent.venues.main.venue
    with (
        agent.bus.subscribed(newest),
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        while True:
            shown = [
                kline._replace(symbol=full_name(VENUES[kline.venue], kline.symbol, default))
                for kline in sorted(newest.rows.values())[:SHOWN_SYMBOLS]
            ]
            table = arrivals_table(shown, caption=_progress(agent))
            live.update(table, refresh=True)
            await trio.sleep(LOOK_EVERY_S)


def _how_to_read(agent: Agent) -> str:
    """Write a line that programs can read by: the exchange's own call, at the agent's address."""
    main = agent.venues.main
    first = main.registry.subscriptions()[0]
    query = f"symbol={first.symbol}&interval={first.interval}&limit=3"
    return f"Read it: curl 'http://{agent.read_bind}{main.venue.klines_path}?{query}'"


def _progress(agent: Agent) -> str:
    received = sum(each.context.pool.counts.klines for each in agent.venues)
    return (
        f"{received} updates received, {agent.writer.stored} rows written,"
        f" {agent.writer.rows_waiting} waiting"
    )
