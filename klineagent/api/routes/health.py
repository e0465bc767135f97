"""The status API's app, with liveness and readiness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from attrs import frozen
from msgspec import UNSET
from quart_trio import QuartTrio

from klineagent.api.app import asked, json_app
from klineagent.api.guard import ANYONE, Guard
from klineagent.api.models.contract import Pong
from klineagent.api.models.reports import Live, Ready, Reason
from klineagent.api.openapi import add_documents, operation
from klineagent.core.interval import SECOND_MS
from klineagent.exchange.stream.pool import Pool
from klineagent.series.context import VenueContext
from klineagent.series.desired.desired import Desired
from klineagent.series.statistics import Totals
from klineagent.series.venues import RunningVenue, Venues
from klineagent.storage.spool.spool import FILLING_AT
from klineagent.storage.writing.writer import Writer

# A lost connection is dialled again within the longest backoff, half a minute.
FEED_DOWN_AFTER_S = 45
# Longer than most outages of an exchange, and far longer than the delay between two attempts.
OVERDUE_AFTER_S = 600
# There may be thousands.
MOST_NAMED = 5

CountedVenues = Sequence[tuple[RunningVenue, Totals]]
_Texts = tuple[str, str]


@frozen
class Shortcoming:
    """A reason why the agent is not ready."""

    part: str
    """One of: exchange, feeds, store, series."""
    venue: str
    """The venue, if it is not the default one; else empty."""
    plain: str
    """The reason for unauthorized clients: no addresses, names, or messages of other servers."""
    text: str
    """The reason with all details."""


def add_health_routes(app: QuartTrio, guard: Guard, *, venues: Venues, writer: Writer) -> None:
    """Add `GET /live` and `GET /ready`, which need no token."""

    @app.get("/live")
    @operation(Live, tag="health", is_open=True)
    async def live() -> Live:
        """Confirm that the event loop is running."""
        return Live()

    @app.get("/ready")
    @operation({200: Ready, 503: Ready}, tag="health", is_open=True)
    async def ready() -> tuple[Ready, int]:
        """Report whether candles are recorded, and if not, why.

        Ready means: the exchange answers, connections are up, the database takes rows or the spool
        has room for them, not every wanted symbol was refused, and no candle that fell due while
        its series ran is missing for long. Details need the token, or a server that only this
        machine can reach.
        """
        is_trusted = guard.trusts(asked())
        found = shortcomings(venues, writer, await counted_venues(venues))
        distinct = dict.fromkeys(
            (each.part, each.text if is_trusted else each.plain, each.venue) for each in found
        )
        reasons = [Reason(part, reason, venue or UNSET) for part, reason, venue in distinct]
        return Ready(not reasons, reasons), 503 if reasons else 200


async def counted_venues(venues: Venues) -> CountedVenues:
    """Return the venues that run, with their totals."""
    return [(each, await each.statistics.totals()) for each in venues]


def shortcomings(venues: Venues, writer: Writer, counted: CountedVenues) -> list[Shortcoming]:
    """List every reason why the agent is not ready."""
    found = [Shortcoming("store", "", *texts) for texts in _of_store(writer)]
    # The default venue runs in any case, and says how an agent is that records nothing yet.
    is_any_wanted = any(running.is_wanted for running, _ in counted)
    for running, totals in counted:
        if running.is_wanted or (running is venues.main and not is_any_wanted):
            venue = "" if running is venues.main else running.venue.name
            reasons = _of_venue(running, totals)
            found += [Shortcoming(part, venue, *texts) for part, texts in reasons]
    return found


def _of_venue(running: RunningVenue, totals: Totals) -> Iterator[tuple[str, _Texts]]:
    context = running.context
    reasons = {
        "exchange": _of_exchange(context),
        "feeds": _of_feeds(context.pool),
        "series": chain(_of_symbols(running.desired), _of_series(context, totals)),
    }
    return ((part, texts) for part, found in reasons.items() for texts in found)


def _of_exchange(context: VenueContext) -> Iterator[_Texts]:
    if not (context.time.is_known and context.book.is_loaded):
        plain = "the exchange has not answered yet"
        reason = context.book.obstacle or context.rest.last_error or "no request was made"
        yield plain, f"{plain}: {reason}"


def _of_feeds(pool: Pool) -> Iterator[_Texts]:
    slots = pool.slots
    # At the start any slot without a connection counts; later it may be new, or dialled again.
    has_started = any(each.is_up or each.was_up for each in slots)
    patience_s = FEED_DOWN_AFTER_S if has_started else 0
    for each in slots:
        if not each.is_up and each.down_s >= patience_s:
            reason = each.last_loss or "the first is being opened"
            yield (
                "a connection to the exchange is down",
                f"feed {each.number} has had no connection for {each.down_s:.0f} s: {reason}",
            )


def _of_store(writer: Writer) -> Iterator[_Texts]:
    if writer.inserter.is_up:
        return
    spool, plain = writer.spool, "the database takes no rows"
    if spool is None:
        plain += ", and there is no spool"
        yield plain, f"{plain}: {writer.inserter.error}"
    elif spool.bytes >= FILLING_AT * spool.limit_bytes:
        used = f"the spool uses {spool.bytes} of {spool.limit_bytes} bytes"
        yield f"{plain}, and the spool is filling", f"{plain}, and {used}: {writer.inserter.error}"
    elif writer.spool_error:
        plain += ", and the spool takes none either"
        yield plain, f"{plain}: {writer.spool_error}"


def _of_symbols(desired: Desired) -> Iterator[_Texts]:
    # An empty set is what the user wants.
    if (refused := desired.refused) and not desired.count():
        plain = "no wanted symbol can be recorded"
        yield plain, f"{plain}: {_some([refused[symbol] for symbol in sorted(refused)])}"


def _of_series(context: VenueContext, totals: Totals) -> Iterator[_Texts]:
    since_ms = context.time.now_ms() - OVERDUE_AFTER_S * SECOND_MS
    late = sorted(
        (at_ms, series.symbol, str(series.interval))
        for at_ms, series in totals.overdue
        # A symbol that does not trade may never get a candle; it is searched for less often.
        if at_ms < since_ms and context.book.trades(series.symbol)
    )
    if late:
        names = _some([f"{symbol} {interval}" for _, symbol, interval in late])
        plain = f"candles fell due over {OVERDUE_AFTER_S} s ago and are missing"
        yield plain, f"{plain}: {names}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return ", ".join(texts[:MOST_NAMED]) + more


_TITLE = "klineagent: status"
_DESCRIPTION = "Health and metrics. It answers at once, however busy the command API is."


def status_app(guard: Guard = ANYONE) -> QuartTrio:
    """Make the status API's app, which answers `GET /ping` and documents itself."""
    app = json_app(__name__, guard)
    add_documents(app, guard, title=_TITLE, description=_DESCRIPTION)
    add_ping_route(app, is_open=True)
    return app


def add_ping_route(app: QuartTrio, *, is_open: bool) -> None:
    """Add `GET /ping`, which both servers have."""

    @app.get("/ping")
    @operation(Pong, tag="health", is_open=is_open)
    async def ping() -> Pong:
        """Confirm that the server answers."""
        return Pong()
