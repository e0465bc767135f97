"""`klineagent simulate`: serves the exchange twin, each venue on a port of its own."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
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
from klineagent.config.converters import LOOPBACK, MAX_PORT, parse_bind
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError, StartError
from klineagent.core.interval import DAY_MS, HOUR_MS, SECOND_MS
from klineagent.exchange.venues import VENUES
from klineagent.process.logs import LogFormat, configure_logging
from klineagent.process.signals import open_stop_signal
from klineagent.twin.archive.archive import PATH as ARCHIVE_PATH
from klineagent.twin.archive.archive import archive_of
from klineagent.twin.archive.faults.options import archive_faults
from klineagent.twin.exchange import Exchange, open_market
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.faults.options import FAULT_HELP, FaultOption, open_faults, parse_fault
from klineagent.twin.feed.firehose import parse_rate
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.server import serve_exchange
from klineagent.twin.socket.tls import open_tls

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
FAULT = click.option(
    "--fault", "faults", multiple=True, metavar="[VENUE:]KIND[=VALUE]", help=FAULT_HELP
)

_DATE = click.DateTime(["%Y-%m-%d"])
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
    "--venue", type=click.Choice(list(VENUES)), help="Market to simulate.  [default: usdm]"
)
@click.option(
    "--venues",
    metavar="VENUE,...",
    help="Several markets: the first on the port of --bind, each other one on the next port.",
)
@ARCHIVE
@click.option(
    "--speed", default=1.0, show_default=True, type=POSITIVE, metavar="X", help=SPEED_HELP
)
@click.option(
    "--symbols",
    default="10",
    show_default=True,
    metavar="N",
    help="How many made-up symbols to trade; of each venue, or as in usdm=600,spot=1500.",
)
@SEED
@FAULT
@click.option(
    "--start", type=_TIME, metavar="TIME", help="Start of simulated time, UTC.  [default: now]"
)
@click.option(
    "--since", type=_DATE, metavar="DATE", help="When symbols were listed.  [default: a day before]"
)
@click.option(
    "--rate",
    metavar="N",
    help="Updates a second, growing, of all venues together; max for as many as clients read.",
)
@click.option(
    "--all-intervals", is_flag=True, help="Compute all candles before clients can connect."
)
@click.option(
    "--tls", type=_FILE, metavar="PEM", help="Serve TLS: a file with key and certificates."
)
@click.option(
    "--mirror",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Serve the files in DIR as the public archive, instead of what was traded.",
)
@click.option(
    "--log-format", default="console", show_default=True, type=_LOG_FORMATS, help="Log format."
)
def simulate(
    *,
    bind: str,
    venue: str | None,
    venues: str | None,
    archive: Path | None,
    speed: float,
    symbols: str,
    seed: int,
    faults: tuple[str, ...],
    start: datetime | None,
    since: datetime | None,
    rate: str | None,
    all_intervals: bool,
    tls: Path | None,
    mirror: Path | None,
    log_format: str,
) -> None:
    """Run a simulated exchange: websocket and REST on one port, or on one for each venue.

    It replays real candles with --archive, and otherwise trades --symbols made-up symbols.
    """
    configure_logging(LogFormat(log_format))
    if venue and venues:
        raise ConfigError("--venue cannot be used with --venues, which names all of them")
    if archive and (start or since):
        raise ConfigError(
            "--start and --since cannot be used with --archive, which begins at its first candle"
        )
    names = read_venues(venues or venue or "usdm")
    counts = read_counts(symbols, names)
    start_ms = _utc_ms(start) if start else time.time_ns() // 1_000_000
    # Under load, a day of history of many symbols would take too long to compute.
    history_ms = DAY_MS if rate is None else HOUR_MS
    if since:
        history_ms = start_ms - _utc_ms(since)
        if history_ms <= 0:
            raise ConfigError("--since must be before the start of simulated time")
    markets = {
        name: EventfulMarket(
            open_market(
                archive=archive,
                symbols=counts[name],
                seed=seed,
                venue_name=name,
                start_ms=start_ms,
                history_ms=history_ms,
            )
        )
        for name in names
    }
    twin = open_exchanges(
        markets, speed=speed, seed=seed, rate=None if rate is None else parse_rate(rate)
    )
    served = partial(
        _simulate,
        twin,
        _addresses(bind, len(names)),
        [parse_fault(text, names) for text in faults],
        None if tls is None else open_tls(tls),
    )
    run(partial(served, mirror=mirror, draws=all_intervals))


def read_venues(text: str) -> tuple[str, ...]:
    """Read the names of venues, separated by commas.

    Raises:
        ConfigError: there is no such venue, or none.
    """
    names = tuple(dict.fromkeys(name for each in text.split(",") if (name := each.strip())))
    if not names or not set(names) <= VENUES.keys():
        raise ConfigError(f"--venues: expected some of {', '.join(VENUES)}, got {text!r}")
    return names


def read_counts(text: str, venues: Sequence[str]) -> Mapping[str, int]:
    """Read the number of symbols: one for each of `venues`, or one for all.

    Raises:
        ConfigError: a venue has none, or one that is not played has one.
    """
    if "=" not in text:
        return dict.fromkeys(venues, _count(text))
    counts = {
        name.strip(): _count(count)
        for name, _, count in (each.partition("=") for each in text.split(","))
    }
    if counts.keys() != set(venues):
        raise ConfigError(f"--symbols: expected a number for each of {', '.join(venues)}: {text!r}")
    return counts


def _count(text: str) -> int:
    try:
        count: int = SYMBOL_COUNT(text.strip())
    except click.BadParameter as error:
        raise ConfigError(f"--symbols: {error.message}") from error
    return count


def _addresses(bind: str, count: int) -> list[Bind]:
    """The addresses of `count` exchanges, on ports that follow each other, or each on a free one.

    Raises:
        ConfigError: `bind` is no address, or there are not so many ports after it.
    """
    try:
        host, first = parse_bind(bind, host=LOOPBACK)
    except ValueError as error:
        raise ConfigError(f"--bind: {error}") from error
    ports = range(first, first + count) if first else [0] * count
    if ports[-1] > MAX_PORT:
        raise ConfigError(f"--bind: {count} venues need {count} ports from {first} on")
    return [Bind(host, port) for port in ports]


async def _simulate(
    twin: AbstractAsyncContextManager[Mapping[str, Exchange]],
    addresses: Sequence[Bind],
    faults: Sequence[FaultOption],
    tls: ssl.SSLContext | None,
    *,
    mirror: Path | None,
    draws: bool,
) -> None:
    async with open_stop_signal() as stop, twin as exchanges, AsyncExitStack() as struck:
        archive = archive_of(exchanges, mirror=mirror)
        struck.enter_context(archive_faults(archive, faults))
        for exchange in exchanges.values():
            await struck.enter_async_context(open_faults(exchange, faults))
            if draws:
                exchange.draw()
        async with trio.open_nursery() as nursery:
            for exchange, address in zip(exchanges.values(), addresses, strict=True):
                serve = partial(serve_exchange, exchange, *address, tls=tls, archive=archive)
                try:
                    host, port = await nursery.start(serve)
                except OSError as error:
                    raise StartError(f"cannot listen on {address}: {error.strerror}") from error
                _tell(exchange, host, port, "s" if tls else "")
            await stop.wait()
            for exchange in exchanges.values():
                exchange.announce_shutdown()
            await trio.sleep(_NOTICE_S)
            nursery.cancel_scope.cancel(reason="asked to stop")


def _tell(exchange: Exchange, host: str, port: int, secure: str) -> None:
    """Log where an exchange is and what it trades."""
    venue, start_ms = exchange.venue.name, exchange.clock.start_ms
    prefix = httpx2.URL(VENUES[venue].ws_url).path.rstrip("/")
    log.info(
        "exchange_twin",
        venue=venue,
        ws_url=f"ws{secure}://{host}:{port}{prefix}",
        rest_url=f"http{secure}://{host}:{port}",
        archive_url=f"http{secure}://{host}:{port}{ARCHIVE_PATH}",
        symbols=[
            each.symbol
            for each in exchange.market.listings
            if each.onboard_ms <= start_ms < each.delivery_ms
        ],
        start=clock_text(start_ms),
        speed=exchange.clock.speed,
    )


def _utc_ms(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp()) * SECOND_MS
