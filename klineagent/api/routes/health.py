"""Whether the agent lives, and whether it does what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen
from quart_trio import QuartTrio

from klineagent.api.app import asked, json_app
from klineagent.api.guard import ANYONE, Guard
from klineagent.api.models.contract import Pong
from klineagent.api.models.data import Live, Ready, Reason
from klineagent.api.openapi import add_documents, operation
from klineagent.core.interval import SECOND_MS
from klineagent.series.desired.desired import Desired
from klineagent.series.registry import Registry
from klineagent.series.statistics import Statistics, Totals
from klineagent.storage.spool.spool import FILLING_AT
from klineagent.storage.writing.writer import Writer

# A lost connection is dialled again within the longest backoff, which is half a minute.
FEED_DOWN_AFTER_S = 45
# Longer than most troubles of an exchange, and than the longest delay between two tries by far.
OVERDUE_AFTER_S = 600
# Of what may be thousands.
TOLD = 5

_Texts = tuple[str, str]


@frozen
class Shortcoming:
    """Why the agent is not ready."""

    part: str
    """One of: exchange, feeds, store, series."""
    plain: str
    """What anybody may know: no address, no name, nobody else's words."""
    text: str
    """The same with all that helps."""


def add_health_routes(
    app: QuartTrio, guard: Guard, *, desired: Desired, writer: Writer, statistics: Statistics
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
        room for them, some symbol that is wanted can be had, and no candle that fell due while its
        series ran is missing for long.
        Details are for those who show the token, or ask a server that only this machine can reach.
        """
        is_trusted = guard.trusts(asked())
        found = shortcomings(desired, writer, await statistics.totals())
        told = {(each.part, each.text if is_trusted else each.plain): None for each in found}
        reasons = [Reason(part, reason) for part, reason in told]
        return Ready(not reasons, reasons), 503 if reasons else 200


def shortcomings(desired: Desired, writer: Writer, totals: Totals) -> list[Shortcoming]:
    """Everything that keeps the agent from being ready."""
    registry = desired.registry
    told = {
        "exchange": _of_exchange(registry),
        "feeds": _of_feeds(registry),
        "store": _of_store(writer),
        "series": [*_of_symbols(desired), *_of_series(registry, totals)],
    }
    return [Shortcoming(part, *texts) for part, found in told.items() for texts in found]


def _of_exchange(registry: Registry) -> Iterator[_Texts]:
    context = registry.context
    if not (context.time.is_known and context.book.is_loaded):
        plain = "the exchange has not answered yet"
        reason = registry.obstacle() or context.rest.last_error or "nothing was tried"
        yield plain, f"{plain}: {reason}"


def _of_feeds(registry: Registry) -> Iterator[_Texts]:
    slots = registry.context.pool.slots
    # At the start there is nothing to be patient about; later a feed may be new, or dialled again.
    has_started = any(each.is_up or each.was_up for each in slots)
    patience_s = FEED_DOWN_AFTER_S if has_started else 0
    for each in slots:
        if not each.is_up and each.down_s >= patience_s:
            reason = each.last_loss or "the first is being made"
            yield (
                "a connection to the exchange is down",
                f"feed {each.number} has no connection for {each.down_s:.0f} s: {reason}",
            )


def _of_store(writer: Writer) -> Iterator[_Texts]:
    if writer.inserter.is_up:
        return
    spool, plain = writer.spool, "the database takes no rows"
    if spool is None:
        plain += ", and there is no spool"
        yield plain, f"{plain}: {writer.inserter.error}"
    elif spool.bytes >= FILLING_AT * spool.limit_bytes:
        used = f"the spool has {spool.bytes} of {spool.limit_bytes} bytes"
        yield f"{plain}, and the spool is filling", f"{plain}, and {used}: {writer.inserter.error}"
    elif writer.spool_error:
        plain += ", nor does the spool"
        yield plain, f"{plain}: {writer.spool_error}"


def _of_symbols(desired: Desired) -> Iterator[_Texts]:
    # A set that is empty is what somebody wants.
    if (refused := desired.refused) and not desired.count():
        plain = "no symbol that is wanted can be had"
        yield plain, f"{plain}: {_some([refused[symbol] for symbol in sorted(refused)])}"


def _of_series(registry: Registry, totals: Totals) -> Iterator[_Texts]:
    context = registry.context
    since_ms = context.time.now_ms() - OVERDUE_AFTER_S * SECOND_MS
    late = sorted(
        (at_ms, series.symbol, str(series.interval))
        for at_ms, series in totals.overdue
        # Of a symbol that does not trade nothing may ever come; it is looked for more rarely.
        if at_ms < since_ms and context.book.trades(series.symbol)
    )
    if late:
        names = _some([f"{symbol} {interval}" for _, symbol, interval in late])
        plain = f"candles fell due over {OVERDUE_AFTER_S} s ago and are missing"
        yield plain, f"{plain}: {names}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - TOLD} more" if len(texts) > TOLD else ""
    return ", ".join(texts[:TOLD]) + more


_TITLE = "klineagent: status"
_DESCRIPTION = "Whether the agent lives. It answers at once, whatever the command server is doing."


def status_app(guard: Guard = ANYONE) -> QuartTrio:
    """An app that answers `GET /ping`, and documents itself."""
    app = json_app(__name__, guard)
    add_documents(app, guard, title=_TITLE, description=_DESCRIPTION)
    add_ping_route(app, is_open=True)
    return app


def add_ping_route(app: QuartTrio, *, is_open: bool) -> None:
    """`GET /ping`, on either server."""

    @app.get("/ping")
    @operation(Pong, tag="health", is_open=is_open)
    async def ping() -> Pong:
        """Say that the server answers."""
        return Pong()
