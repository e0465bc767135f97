"""`klineagent demo`: exchange twin, agent and database in one process, on real sockets."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
from klineagent.cli.options import INTERVALS, VENUE
from klineagent.cli.running import run
from klineagent.cli.simulate import ARCHIVE, POSITIVE, SEED, SPEED_HELP, SYMBOL_COUNT
from klineagent.cli.tables import arrivals_table, summary_table, wide_console
from klineagent.config.model import Config, load_config
from klineagent.core.address import Bind
from klineagent.core.errors import KlineagentError
from klineagent.core.interval import BY_LENGTH
from klineagent.core.kline import Kline
from klineagent.process.logs import LogFormat, LogLevel, configure_logging
from klineagent.process.signals import StopSignal, open_stop_signal
from klineagent.storage.opening import open_store
from klineagent.twin.exchange import open_exchange, open_market
from klineagent.twin.market.market import Market
from klineagent.twin.server import serve_exchange
from klineagent.twin.venues import venue_named

LOOPBACK = "127.0.0.1"
LOOK_EVERY_S = 0.25
"""How often the terminal is redrawn."""
PRINT_EVERY_S = 2.0
"""How often a line is printed where there is no terminal."""
SHOWN_SYMBOLS = 12


@click.command()
@click.option(
    "--seconds",
    default=20.0,
    show_default=True,
    type=POSITIVE,
    metavar="N",
    help="How long to record.",
)
@click.option(
    "--symbols",
    default=5,
    show_default=True,
    type=SYMBOL_COUNT,
    metavar="N",
    help="How many symbols to record.",
)
@click.option(
    "--speed", default=60.0, show_default=True, type=POSITIVE, metavar="X", help=SPEED_HELP
)
@ARCHIVE
@SEED
@INTERVALS
@VENUE
@click.option("--store", help="Database to record into.  [default: a temporary folder]")
def demo(
    seconds: float,
    symbols: int,
    speed: float,
    archive: Path | None,
    seed: int,
    **options: object,
) -> None:
    """Try it all in one process: simulated exchange, agent and database.

    After --seconds, or on Ctrl-C, it prints what the database holds.
    """
    configure_logging(LogFormat.CONSOLE, level=LogLevel.WARNING)
    config = load_config(options, {}, None)
    market = open_market(
        archive=archive,
        symbols=symbols,
        seed=seed,
        venue_name=config.venue.name,
        start_ms=time.time_ns() // 1_000_000,
    )
    shown = Demo(
        config=config,
        keeps=options["store"] is not None,
        market=market,
        symbols=tuple(listing.symbol for listing in market.listings)[:symbols],
        seconds=seconds,
        speed=speed,
    )
    run(partial(run_demo, shown))


@frozen(kw_only=True)
class Demo:
    """What the demonstration records, and for how long."""

    config: Config
    keeps: bool
    """Whether rows stay in the store of `config`; otherwise they go to a temporary folder."""
    market: Market
    symbols: tuple[str, ...]
    seconds: float
    speed: float


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
            _open_twin(demo) as port,
            open_agent(_recording(config, demo.symbols, port), store=store) as agent,
        ):
            console.print(
                f"A simulated exchange trades at {demo.speed:g} times real time; the agent records"
                f" {agent.registry.count()} streams of {len(demo.symbols)} symbols into"
                f" {store.label} and answers at http://{agent.command_bind}/status",
                soft_wrap=True,  # addresses can be copied whole
            )
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
async def _open_twin(demo: Demo) -> AsyncIterator[int]:
    """Serve the exchange twin on a loopback port, and yield the port."""
    rules = venue_named(demo.config.venue.name)
    async with (
        open_exchange(demo.market, rules, speed=demo.speed) as exchange,
        trio.open_nursery() as nursery,
    ):
        _, port = await nursery.start(serve_exchange, exchange, LOOPBACK, 0)
        yield port
        nursery.cancel_scope.cancel(reason="the demonstration is over")


def _recording(config: Config, symbols: tuple[str, ...], port: int) -> Config:
    """Return the configuration of an agent that records from the twin at `port`."""
    # The path of the venue's own URL stays: on USD-M klines are under /market.
    prefix = httpx2.URL(config.venue.ws_url).path.rstrip("/")
    return evolve(
        config,
        symbols=symbols,
        max_symbols=len(symbols),
        ws_url=f"ws://{LOOPBACK}:{port}{prefix}",
        rest_url=f"http://{LOOPBACK}:{port}",
        command_bind=Bind(LOOPBACK, 0),
        status_bind=Bind(LOOPBACK, 0),
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
    newest = _Newest()
    with (
        agent.bus.subscribed(newest),
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        while True:
            shown = sorted(newest.rows.values())[:SHOWN_SYMBOLS]
            table = arrivals_table(shown, caption=_progress(agent))
            live.update(table, refresh=True)
            await trio.sleep(LOOK_EVERY_S)


def _progress(agent: Agent) -> str:
    return (
        f"{agent.pool.counts.klines} updates received, {agent.writer.stored} rows written,"
        f" {agent.writer.rows_waiting} waiting"
    )
