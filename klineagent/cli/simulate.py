"""`klineagent simulate`: serves the exchange twin on a port."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import httpx2
import structlog
import trio

from klineagent.cli.options import FiniteRange
from klineagent.cli.running import run
from klineagent.cli.tables import clock_text
from klineagent.config.converters import LOOPBACK, parse_bind
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError, StartError
from klineagent.core.interval import DAY_MS, HOUR_MS, SECOND_MS
from klineagent.exchange.venues import VENUES
from klineagent.process.logs import LogFormat, configure_logging
from klineagent.process.signals import open_stop_signal
from klineagent.twin.exchange import Exchange, open_exchange, open_market
from klineagent.twin.faults.options import FAULT_HELP, FaultOption, open_faults, parse_fault
from klineagent.twin.feed.firehose import parse_rate
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.server import serve_exchange
from klineagent.twin.socket.tls import open_tls
from klineagent.twin.venues import venue_named

log = structlog.get_logger()

_NOTICE_S = 0.2
"""Between the announcement that the twin stops and its stop: enough time to send it."""

# Shared with `klineagent demo`.
POSITIVE = FiniteRange(min=0, min_open=True)
SYMBOL_COUNT = click.IntRange(1, 2000)
SPEED_HELP = "Speed, as a multiple of real time."
ARCHIVE = click.option(
    "--archive",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Replay real candles from DIR, laid out like the exchange's public archive.",
)
SEED = click.option(
    "--seed", default=1, show_default=True, metavar="S", help="Seed of the made-up trades."
)

_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S"])
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_LOG_FORMATS = click.Choice([each.value for each in LogFormat])


@click.command()
@click.option(
    "--bind",
    default="127.0.0.1:9090",
    show_default=True,
    metavar="HOST:PORT",
    help="Address to listen on; a port alone means loopback.",
)
@click.option(
    "--venue",
    default="usdm",
    show_default=True,
    type=click.Choice(list(VENUES)),
    help="Market to simulate.",
)
@ARCHIVE
@click.option(
    "--speed", default=1.0, show_default=True, type=POSITIVE, metavar="X", help=SPEED_HELP
)
@click.option(
    "--symbols",
    default=10,
    show_default=True,
    type=SYMBOL_COUNT,
    metavar="N",
    help="How many made-up symbols to trade.",
)
@SEED
@click.option("--fault", "faults", multiple=True, metavar="KIND[=VALUE]", help=FAULT_HELP)
@click.option(
    "--start", type=_TIME, metavar="TIME", help="Start of simulated time, UTC.  [default: now]"
)
@click.option(
    "--rate", metavar="N", help="Updates a second, growing; max for as many as clients read."
)
@click.option(
    "--all-intervals", is_flag=True, help="Compute all candles before clients can connect."
)
@click.option(
    "--tls", type=_FILE, metavar="PEM", help="Serve TLS: a file with key and certificates."
)
@click.option(
    "--log-format", default="console", show_default=True, type=_LOG_FORMATS, help="Log format."
)
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
    """Run a simulated exchange: websocket and REST on one port.

    It replays real candles with --archive, and otherwise trades --symbols made-up symbols.
    """
    configure_logging(LogFormat(log_format))
    try:
        address = parse_bind(bind, host=LOOPBACK)
    except ValueError as error:
        raise ConfigError(f"--bind: {error}") from error
    if start and archive:
        raise ConfigError("--start cannot be used with --archive, which begins at its first candle")
    market = open_market(
        archive=archive,
        symbols=symbols,
        seed=seed,
        venue_name=venue,
        start_ms=_utc_ms(start) if start else time.time_ns() // 1_000_000,
        # Under load, a day of history of many symbols would take too long to compute.
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


def _utc_ms(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp()) * SECOND_MS
