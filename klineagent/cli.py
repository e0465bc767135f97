"""Commands: options to `Config`, then run. Nothing else."""

from __future__ import annotations

import math
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx2
import structlog
import trio

from klineagent import __version__
from klineagent.bench.command import bench
from klineagent.bind import Bind
from klineagent.client.commands import (
    add,
    coverage,
    feeds,
    limits,
    list_,
    remove,
    status,
    watch,
    why,
)
from klineagent.config import Config, load_config
from klineagent.config_commands import config_group
from klineagent.converters import parse_bind
from klineagent.demo import Demo, run_demo
from klineagent.errors import ConfigError, KlineagentError, StartError
from klineagent.kline import DAY_MS, HOUR_MS, SECOND_MS, Interval
from klineagent.logs import LogFormat, LogLevel, configure_logging
from klineagent.market.venues import VENUES
from klineagent.options import CA_FILE, CONFIG_FILE, SPOOL, STORE, VENUE, setting
from klineagent.proof.command import prove
from klineagent.running import run
from klineagent.service import run_service
from klineagent.signals import open_stop_signal
from klineagent.sim.eventful_market import EventfulMarket
from klineagent.sim.exchange import Exchange, open_exchange, open_market
from klineagent.sim.fault_options import FAULT_HELP, FaultOption, open_faults, parse_fault
from klineagent.sim.firehose import parse_rate
from klineagent.sim.records import open_tls
from klineagent.sim.server import serve_exchange
from klineagent.sim.venue import venue_named
from klineagent.spool_commands import spool
from klineagent.storage.location import FolderLocation, locate
from klineagent.storage.opening import open_store
from klineagent.tables import candles_table, clock_text, summary_table, updates_table, wide_console

log = structlog.get_logger()

_NOTICE_S = 0.2
"""Between the twin's announcement that it stops and its stop: enough to get it out."""

_INTERVALS = setting("intervals", "What adding a symbol adds.", "1m,5m,...")
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
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S"])
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_LOG_FORMATS = click.Choice([each.value for each in LogFormat])
_LOG_FORMAT = setting("log_format", "console or json.", "FORMAT")


@click.group()
@click.version_option(__version__, prog_name="klineagent")
def commands() -> None:
    """Keep Binance candlesticks flowing, with none missing, into ClickHouse."""


for command in (status, list_, add, remove, coverage, why, limits, feeds, watch):
    commands.add_command(command)
commands.add_command(bench)
commands.add_command(prove)
commands.add_command(spool)


@commands.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@_INTERVALS
@VENUE
@setting("ws_url", "Replaces the prefix before /ws and /stream.", "URL")
@setting("rest_url", "Replaces the venue's REST address.", "URL")
@STORE
@CA_FILE
@setting("command_bind", "Where commands are taken.", "HOST:PORT")
@setting("command_tls_cert", "Take them over TLS, with this certificate.", "PEM")
@setting("command_tls_key", "Its key, if that is in another file.", "PEM")
@setting("token_file", "What clients must show; or set KLINEAGENT_TOKEN.", "FILE")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    default=None,
    help="Let anyone command who can reach --command-bind, also from other machines.",
)
@setting("status_bind", "Where health is told.", "HOST:PORT")
@setting("max_symbols", "How many symbols are accepted.", "N")
@setting("agent_ip", "The address this agent tells others.", "IP")
@setting("register_ip", "The manager to register with.", "HOST")
@setting("register_port", "The manager's port.", "PORT")
@setting("self_update_interval_s", "Between writes of its row in `agents`.", "S")
@setting("history", "Candles fetched from before a series is added; 0 for none.", "N")
@setting("lookback_s", "How far back holes are looked for.", "1d,12h,...")
@setting("grace_s", "How long a closed candle may stay without its event.", "S")
@click.option(
    "--updates/--no-updates",
    default=None,
    help="Keep every state of every candle, too, in table kline_updates.  [default: no-updates]",
)
@SPOOL
@setting(
    "state",
    "The file for subscriptions made over HTTP, or none.  [default: one per database and venue]",
    "FILE",
)
@setting("spool_limit", "How large that folder may grow.", "4G,500M,...")
@setting("flush_interval_s", "How long a row may wait for company.", "S")
@setting("flush_rows", "Rows in a batch at the most.", "N")
@setting("buffer_rows", "Rows that may wait while the database is away.", "N")
@setting("drain_timeout_s", "What stopping may take to write what waits.", "S")
@CONFIG_FILE
@_LOG_FORMAT
@setting("log_level", f"From where on lines are logged: {', '.join(LogLevel)}.", "LEVEL")
def serve(file: Path | None, symbols: tuple[str, ...], **options: object) -> None:
    """Record SYMBOLs, and what is added over HTTP, until SIGINT or SIGTERM.

    Every setting can also come from the environment (KLINEAGENT_STORE, ...) or a file.
    """
    given = {"symbols": ",".join(symbols) or None, **options}
    reread = partial(load_config, given, os.environ, file)
    config = reread()
    configure_logging(config.log_format, level=config.log_level)
    run(partial(run_service, config, reread))


commands.add_command(config_group(serve))


@commands.command()
@click.option("--bind", default="127.0.0.1:9090", show_default=True, metavar="HOST:PORT")
@click.option("--venue", default="usdm", show_default=True, type=click.Choice(list(VENUES)))
@_ARCHIVE
@click.option("--speed", default=1.0, show_default=True, type=_POSITIVE, metavar="X", help=_SPEED)
@click.option("--symbols", default=10, show_default=True, type=_SYMBOLS, metavar="N")
@_SEED
@click.option("--fault", "faults", multiple=True, metavar="KIND[=VALUE]", help=FAULT_HELP)
@click.option("--start", type=_TIME, metavar="TIME", help="When it begins, UTC.  [default: now]")
@click.option("--rate", metavar="N", help="Growing updates a second; max for all that is read.")
@click.option("--all-intervals", is_flag=True, help="Draw all candles before clients can connect.")
@click.option("--tls", type=_FILE, metavar="PEM", help="Speak TLS; the key and its certificates.")
@click.option("--log-format", default="console", show_default=True, type=_LOG_FORMATS)
def simulate(
    *,
    bind: str,
    venue: str,
    archive: Path | None,
    speed: float,
    symbols: int,
    seed: int,
    faults: tuple[str, ...],
    start: datetime | None,
    rate: str | None,
    all_intervals: bool,
    tls: Path | None,
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
    if start and archive:
        raise ConfigError("--start: an archive begins where its candles do")
    market = open_market(
        archive=archive,
        symbols=symbols,
        seed=seed,
        venue_name=venue,
        start_ms=_utc_ms(start) if start else _now_ms(),
        # A day of many symbols takes longer to draw than it is worth under load.
        history_ms=DAY_MS if rate is None else HOUR_MS,
    )
    twin = open_exchange(
        EventfulMarket(market),
        venue_named(venue),
        speed=speed,
        seed=seed,
        rate=None if rate is None else parse_rate(rate),
    )
    options = [parse_fault(text) for text in faults]
    context = None if tls is None else open_tls(tls)
    run(partial(_simulate, twin, address, options, context, draws=all_intervals))


async def _simulate(
    twin: AbstractAsyncContextManager[Exchange],
    address: Bind,
    faults: Sequence[FaultOption],
    tls: ssl.SSLContext | None,
    *,
    draws: bool,
) -> None:
    async with (
        open_stop_signal() as stop,
        twin as exchange,
        open_faults(exchange, faults),
        trio.open_nursery() as nursery,
    ):
        if draws:
            exchange.draw()
        serve = partial(serve_exchange, exchange, *address, tls=tls)
        try:
            host, port = await nursery.start(serve)
        except OSError as error:
            raise StartError(f"cannot listen on {address}: {error.strerror}") from error
        venue, secure = exchange.venue.name, "s" if tls else ""
        prefix = httpx2.URL(VENUES[venue].ws_url).path.rstrip("/")
        log.info(
            "exchange_twin",
            venue=venue,
            ws_url=f"ws{secure}://{host}:{port}{prefix}",
            rest_url=f"http{secure}://{host}:{port}",
            symbols=[listing.symbol for listing in exchange.market.listings],
            start=clock_text(exchange.market.start_ms),
            speed=exchange.clock.speed,
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
@VENUE
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
    configure_logging(LogFormat.CONSOLE, level=LogLevel.WARNING)
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
        run(
            partial(
                run_demo,
                Demo(config=config, market=market, symbols=names, seconds=seconds, speed=speed),
            )
        )


@commands.command()
@click.argument("symbol", required=False)
@click.argument("interval", required=False, default="1m")
@click.option("--last", default=10, show_default=True, type=_COUNT, metavar="N")
@click.option("--updates", is_flag=True, help="The states they went through, where those are kept.")
@VENUE
@STORE
@CA_FILE
@CONFIG_FILE
def show(
    file: Path | None,
    symbol: str | None,
    interval: str,
    last: int,
    updates: bool,
    **options: object,
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
    if updates and symbol is None:
        raise ConfigError("--updates needs a SYMBOL")
    run(partial(_show, config, symbol, wanted, last=last, updates=updates))


async def _show(
    config: Config, symbol: str | None, interval: Interval, *, last: int, updates: bool
) -> None:
    location = locate(config.store)
    if isinstance(location, FolderLocation) and not location.folder.is_dir():
        raise StartError(f"nothing has been recorded in {location.folder}: no such folder")
    async with open_store(config.store, config.ca_file) as store:
        if symbol is None:
            table = summary_table(await store.summary(), title=f"Stored in {store.label}")
        else:
            venue, symbol = config.venue.name, symbol.upper()
            read, what, show_klines = (
                (store.updates, "update", updates_table)
                if updates
                else (store.final_klines, "closed candle", candles_table)
            )
            klines = await read(venue, symbol, interval.value, newest=last)
            if not klines:
                raise StartError(f"no {what} of {symbol} {interval} on {venue} is stored")
            table = show_klines(klines, title=f"{symbol} {interval} on {venue}, times in UTC")
        wide_console().print(table)


def _utc_ms(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp()) * SECOND_MS


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    """The console script: an error its user can do something about is one line."""
    try:
        commands()
    except KlineagentError as error:
        click.echo(f"klineagent: {error}", err=True)
        sys.exit(error.exit_code)
