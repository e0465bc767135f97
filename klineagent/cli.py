"""Commands: options to `Config`, then run. Nothing else."""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx2
import structlog
import trio
from attrs import fields_dict

from klineagent import __version__
from klineagent.agent import open_agent
from klineagent.bind import Bind
from klineagent.config import Config, as_written, load_config, parse_bind
from klineagent.demo import Demo, run_demo
from klineagent.errors import ConfigError, KlineagentError, StartError
from klineagent.kline import Interval
from klineagent.logs import LogFormat, configure_logging
from klineagent.market.venues import VENUES
from klineagent.signals import open_stop_signal
from klineagent.sim.exchange import open_exchange, open_market
from klineagent.sim.market import Market
from klineagent.sim.server import serve_exchange
from klineagent.sim.venue import venue_named
from klineagent.storage.location import FolderLocation, locate
from klineagent.storage.opening import open_store
from klineagent.tables import candles_table, clock_text, summary_table, wide_console

log = structlog.get_logger()

_Command = TypeVar("_Command", bound=Callable[..., Any])

EXIT_UNUSABLE = 2
"""An option or a configuration cannot be used."""
EXIT_FAILED = 1
_NOTICE_S = 0.2
"""Between the twin's announcement that it stops and its stop: enough to get it out."""

_CONFIG_FILE = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="KLINEAGENT_CONFIG",
    help="A TOML file with a table [klineagent]; options and environment win over it.",
)


def _setting(name: str, text: str, metavar: str) -> Callable[[_Command], _Command]:
    """The option that sets field `name` of `Config`; its default is told, and kept there."""
    default = fields_dict(Config)[name].default
    told = "" if default is None else f"  [default: {as_written(default)}]"
    return click.option(f"--{name.replace('_', '-')}", metavar=metavar, help=text + told)


_VENUE = _setting("venue", f"The market: {', '.join(VENUES)}.", "VENUE")
_STORE = _setting(
    "store",
    "chdb:FOLDER, chdb:///absolute/folder, or clickhouse://user:password@host:9000/database.",
    "URL",
)
_INTERVALS = _setting("intervals", "What adding a symbol adds.", "1m,5m,...")
_ARCHIVE = click.option(
    "--archive",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Replay the candles found in DIR, which is laid out like the exchange's archive.",
)
_SEED = click.option("--seed", default=1, show_default=True, metavar="S")
_SPEED = "How many times faster than real time."
_COUNT = click.IntRange(min=1)
_SYMBOLS = click.IntRange(1, 2000)


class _Positive(click.FloatRange):
    """A positive number; click takes "nan" and "inf" for some."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See `click.ParamType`."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


_POSITIVE = _Positive(min=0, min_open=True)
_LOG_FORMATS = click.Choice([each.value for each in LogFormat])
_LOG_FORMAT = _setting("log_format", "console or json.", "FORMAT")


@click.group()
@click.version_option(__version__, prog_name="klineagent")
def commands() -> None:
    """Keep Binance candlesticks flowing, with none missing, into ClickHouse."""


@commands.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@_INTERVALS
@_VENUE
@_setting("ws_url", "Replaces the prefix before /ws and /stream.", "URL")
@_setting("rest_url", "Replaces the venue's REST address.", "URL")
@_STORE
@_setting("command_bind", "Where commands are taken.", "HOST:PORT")
@_setting("status_bind", "Where GET /ping is answered.", "HOST:PORT")
@_setting("max_symbols", "How many symbols are accepted.", "N")
@_setting("agent_ip", "The address this agent tells others.", "IP")
@_setting("register_ip", "The manager to register with.", "HOST")
@_setting("register_port", "The manager's port.", "PORT")
@_setting("self_update_interval_s", "Between writes of its row in `agents`.", "S")
@_setting("flush_interval_s", "How long a row may wait for company.", "S")
@_setting("flush_rows", "Rows in a batch at the most.", "N")
@_setting("buffer_rows", "Rows that may wait while the database is away.", "N")
@_setting("drain_timeout_s", "What stopping may take to write what waits.", "S")
@_CONFIG_FILE
@_LOG_FORMAT
def serve(file: Path | None, symbols: tuple[str, ...], **options: object) -> None:
    """Record SYMBOLs, and what is added over HTTP, until SIGINT or SIGTERM.

    Every setting can also come from the environment (KLINEAGENT_STORE, ...) or a file.
    """
    config = load_config({"symbols": ",".join(symbols) or None, **options}, os.environ, file)
    configure_logging(config.log_format)
    _run(partial(_serve, config))


async def _serve(config: Config) -> None:
    async with open_stop_signal() as stop, open_agent(config):
        # What is loaded by now, some hundred thousand objects, stays loaded; looking through it for
        # garbage would stop the agent for tens of milliseconds each time.
        gc.collect()
        gc.freeze()
        await stop.wait()
    log.info("stopped")


@commands.command()
@click.option("--bind", default="127.0.0.1:9090", show_default=True, metavar="HOST:PORT")
@click.option("--venue", default="usdm", show_default=True, type=click.Choice(list(VENUES)))
@_ARCHIVE
@click.option("--speed", default=1.0, show_default=True, type=_POSITIVE, metavar="X", help=_SPEED)
@click.option("--symbols", default=10, show_default=True, type=_SYMBOLS, metavar="N")
@_SEED
@click.option("--log-format", default="console", show_default=True, type=_LOG_FORMATS)
def simulate(
    bind: str,
    venue: str,
    archive: Path | None,
    speed: float,
    symbols: int,
    seed: int,
    log_format: str,
) -> None:
    """Run a twin of the exchange: websocket and REST on one port.

    With --archive it replays real candles; without, it trades N made-up SYMBOLS.
    """
    configure_logging(LogFormat(log_format))
    try:
        address = parse_bind(bind)
    except ValueError as error:
        raise ConfigError(f"--bind: {error}") from error
    market = open_market(
        archive=archive, symbols=symbols, seed=seed, venue_name=venue, start_ms=_now_ms()
    )
    _run(partial(_simulate, market, venue, address, speed))


async def _simulate(market: Market, venue: str, address: Bind, speed: float) -> None:
    async with (
        open_stop_signal() as stop,
        open_exchange(market, venue_named(venue), speed=speed) as exchange,
        trio.open_nursery() as nursery,
    ):
        try:
            host, port = await nursery.start(serve_exchange, exchange, *address)
        except OSError as error:
            raise StartError(f"cannot listen on {address}: {error.strerror}") from error
        prefix = httpx2.URL(VENUES[venue].ws_url).path.rstrip("/")
        log.info(
            "exchange_twin",
            venue=venue,
            ws_url=f"ws://{host}:{port}{prefix}",
            rest_url=f"http://{host}:{port}",
            symbols=[listing.symbol for listing in market.listings],
            start=clock_text(market.start_ms),
            speed=speed,
        )
        await stop.wait()
        exchange.announce_shutdown()
        await trio.sleep(_NOTICE_S)
        nursery.cancel_scope.cancel(reason="asked to stop")


@commands.command()
@click.option("--seconds", default=20.0, show_default=True, type=_POSITIVE, metavar="N")
@click.option("--symbols", default=5, show_default=True, type=_SYMBOLS, metavar="N")
@click.option("--speed", default=60.0, show_default=True, type=_POSITIVE, metavar="X", help=_SPEED)
@_ARCHIVE
@_SEED
@_INTERVALS
@_VENUE
@click.option("--store", help="Keep what is recorded.  [default: a folder that is deleted]")
def demo(
    seconds: float,
    symbols: int,
    speed: float,
    archive: Path | None,
    seed: int,
    **options: object,
) -> None:
    """Show all of it at once: exchange twin, agent and database in one process.

    Ends after --seconds or Ctrl-C with what is then in the database.
    """
    configure_logging(LogFormat.CONSOLE, level=logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="klineagent-demo-") as folder:
        config = load_config({**options, "store": options["store"] or f"chdb://{folder}"}, {}, None)
        market = open_market(
            archive=archive,
            symbols=symbols,
            seed=seed,
            venue_name=config.venue.name,
            start_ms=_now_ms(),
        )
        names = tuple(listing.symbol for listing in market.listings)[:symbols]
        _run(
            partial(
                run_demo,
                Demo(config=config, market=market, symbols=names, seconds=seconds, speed=speed),
            )
        )


@commands.command()
@click.argument("symbol", required=False)
@click.argument("interval", required=False, default="1m")
@click.option("--last", default=10, show_default=True, type=_COUNT, metavar="N")
@_VENUE
@_STORE
@_CONFIG_FILE
def show(
    file: Path | None, symbol: str | None, interval: str, last: int, **options: object
) -> None:
    """Show what is stored: all series, or the newest closed candles of SYMBOL at INTERVAL.

    A chdb folder has one user at a time: stop the agent that writes to it first.
    """
    configure_logging(LogFormat.CONSOLE)
    config = load_config(options, os.environ, file)
    try:
        wanted = Interval(interval)
    except ValueError:
        raise ConfigError(f"there is no interval {interval!r}") from None
    _run(partial(_show, config, symbol, wanted, last))


async def _show(config: Config, symbol: str | None, interval: Interval, last: int) -> None:
    location = locate(config.store)
    if isinstance(location, FolderLocation) and not location.folder.is_dir():
        raise StartError(f"nothing has been recorded in {location.folder}: no such folder")
    async with open_store(config.store) as store:
        if symbol is None:
            table = summary_table(await store.summary(), title=f"Stored in {store.label}")
        else:
            venue, symbol = config.venue.name, symbol.upper()
            klines = await store.final_klines(venue, symbol, interval.value, newest=last)
            if not klines:
                raise StartError(f"no closed candle of {symbol} {interval} on {venue} is stored")
            table = candles_table(klines, title=f"{symbol} {interval} on {venue}, times in UTC")
        wide_console().print(table)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _run(function: Callable[[], Awaitable[None]]) -> None:
    """Run `function` under Trio; an expected error in the group it comes in is taken out of it."""
    try:
        trio.run(function)
    except* KlineagentError as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[KlineagentError]) -> KlineagentError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def main() -> None:
    """The console script: an error its user can do something about is one line."""
    try:
        commands()
    except KlineagentError as error:
        click.echo(f"klineagent: {error}", err=True)
        sys.exit(EXIT_UNUSABLE if isinstance(error, ConfigError) else EXIT_FAILED)
