"""Whether the agent lives, and whether it does what it is for."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen
from quart_trio import QuartTrio

from klineagent.control.health_models import Live, Ready, Reason
from klineagent.control.openapi import operation
from klineagent.kline import SECOND_MS
from klineagent.series.census import Bureau, Census
from klineagent.series.registry import Registry
from klineagent.storage.spool import FILLING_AT
from klineagent.storage.writer import Writer

# A lost connection is dialled again within the longest backoff, which is half a minute.
FEED_DOWN_AFTER_S = 45
# It takes five minutes to be sure that a candle does not exist, and a minute to the next look.
OVERDUE_AFTER_S = 600
# Of what may be thousands.
SERIES_TOLD = 5


@frozen
class Shortcoming:
    """Why the agent is not ready."""

    part: str
    """One of: exchange, feeds, store, series."""
    text: str


def add_health_routes(
    app: QuartTrio, *, registry: Registry, writer: Writer, bureau: Bureau
) -> None:
    """`GET /live` and `GET /ready`, which anyone may ask."""

    @app.get("/live")
    @operation(Live, tag="health", is_open=True)
    async def live() -> Live:
        """Say that the event loop runs."""
        return Live()

    @app.get("/ready")
    @operation({200: Ready, 503: Ready}, tag="health", is_open=True)
    async def ready() -> tuple[Ready, int]:
        """Tell whether candles are recorded, and if not, why.

        That is: the exchange is there, connections are up, the database takes rows or the spool has
        room for them, and no candle that fell due while its series ran is missing for long.
        """
        found = shortcomings(registry, writer, await bureau.census())
        reasons = [Reason(each.part, each.text) for each in found]
        return Ready(not reasons, reasons), 503 if reasons else 200


def shortcomings(registry: Registry, writer: Writer, census: Census) -> list[Shortcoming]:
    """Everything that keeps the agent from being ready."""
    told = {
        "exchange": _of_exchange(registry),
        "feeds": _of_feeds(registry),
        "store": _of_store(writer),
        "series": _of_series(registry, census),
    }
    return [Shortcoming(part, text) for part, texts in told.items() for text in texts]


def _of_exchange(registry: Registry) -> Iterator[str]:
    means = registry.means
    if not (means.time.is_known and means.book.is_loaded):
        yield f"the exchange has not answered yet: {registry.obstacle() or 'nothing was tried'}"


def _of_feeds(registry: Registry) -> Iterator[str]:
    successions = registry.means.pool.successions
    # At the start there is nothing to be patient about; later a feed may be new, or dialled again.
    has_started = any(each.is_up or each.was_up for each in successions)
    patience_s = FEED_DOWN_AFTER_S if has_started else 0
    for each in successions:
        if not each.is_up and each.down_s >= patience_s:
            reason = each.last_loss or "the first is being made"
            yield f"feed {each.number} has no connection for {each.down_s:.0f} s: {reason}"


def _of_store(writer: Writer) -> Iterator[str]:
    if writer.delivery.is_up:
        return
    spool = writer.spool
    if spool is None:
        yield f"the database takes no rows, and there is no spool: {writer.delivery.error}"
    elif spool.bytes >= FILLING_AT * spool.limit_bytes:
        yield (
            f"the database takes no rows, and the spool has {spool.bytes} of {spool.limit_bytes}"
            f" bytes: {writer.delivery.error}"
        )
    elif writer.spool_error:
        yield f"the database takes no rows, nor does the spool: {writer.spool_error}"


def _of_series(registry: Registry, census: Census) -> Iterator[str]:
    means = registry.means
    since_ms = means.time.now_ms() - OVERDUE_AFTER_S * SECOND_MS
    late = sorted(
        (at_ms, series.symbol, str(series.interval))
        for at_ms, series in census.overdue
        # Of a symbol that does not trade nothing may ever come; it is looked for more rarely.
        if at_ms < since_ms and means.book.trades(series.symbol)
    )
    if late:
        names = ", ".join(f"{symbol} {interval}" for _, symbol, interval in late[:SERIES_TOLD])
        more = f" and {len(late) - SERIES_TOLD} more" if len(late) > SERIES_TOLD else ""
        yield f"candles fell due over {OVERDUE_AFTER_S} s ago and are missing: {names}{more}"
