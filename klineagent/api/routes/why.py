"""Explains one candle: what the ledger, the writer and the database know about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import trio
from attrs import define, field

from klineagent.api.models.reports import Lost, Search, State, StoredRow, StoreSays, Why
from klineagent.api.models.timestamps import utc
from klineagent.api.routes.coverage import HOW
from klineagent.core.errors import InvalidRequest, SpoolError, StoreError
from klineagent.core.interval import SECOND_MS, Interval
from klineagent.core.kline import Key, Kline, event_time_of
from klineagent.exchange.venues import Venue, full_name
from klineagent.series.marks import Urgency
from klineagent.series.statistics import CandleState, candle_state_of
from klineagent.series.subscription import Subscription
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import RowLocation, Writer

# Callers of queries wait ten seconds.
STORE_WITHIN_S = 5
SPOOL_WITHIN_S = 2

_WAITING = {RowLocation.MEMORY, RowLocation.SPOOL}
_VERDICTS: Mapping[CandleState, tuple[State, str]] = {
    CandleState.MISSING: ("missing", "It is due and not stored; it is being fetched."),
    CandleState.ABSENT: ("absent", "It will not come."),
    CandleState.FORMING: ("forming", "It is open."),
    CandleState.AWAITED: ("expected", "It has closed; its closing event may still arrive."),
    CandleState.FUTURE: ("expected", "It has not opened yet."),
}


@define(eq=False, kw_only=True)
class CandleLookup:
    """Looks up candles in the ledger, the writer and the database."""

    venues: Venues
    writer: Writer
    # A store answers one such query at a time.
    _turn: trio.Lock = field(factory=trio.Lock, init=False)

    async def why(self, venue: Venue, symbol: str, interval: Interval, open_ms: int) -> Why:
        """Report all that is known about the candle that opens at `open_ms`.

        Raises:
            InvalidRequest: no candle of `interval` opens then.
        """
        if (opened_ms := interval.open_at(open_ms)) != open_ms:
            raise InvalidRequest(
                f"open_time: no {interval} candle opens at {utc(open_ms)};"
                f" the candle of that time opens at {utc(opened_ms)}"
            )
        says, location = await self._look_up((venue.name, symbol, interval.value, open_ms))
        name = full_name(venue, symbol, self.venues.default)
        series = self.venues.subscription(name, interval)
        state, explanation = self._verdict(series, open_ms, says, location)
        due_ms = interval.next_open(open_ms) + self.venues.main.context.grace_ms
        return Why(
            symbol=name,
            venue=venue.name,
            interval=str(interval),
            open_time=utc(open_ms),
            close_time=utc(interval.close_of(open_ms)),
            state=state,
            explanation=explanation,
            due=utc(due_ms),
            store=says,
            search=self._search(series, open_ms, due_ms),
            lost=_loss(series, open_ms),
            newest_event=_newest_event(series, open_ms) if state == "forming" else None,
        )

    async def _look_up(self, key: Key) -> tuple[StoreSays, RowLocation | None]:
        """Return the store's answer about a candle, and where it waits; None if unknown."""
        # Located before the store is asked, and again after: a row that moved on in between is in
        # the store, and one that arrived in between waits.
        location = await self._locate_row(key)
        says = await self._ask(key)
        if location is RowLocation.NEITHER and says.row is None:
            location = await self._locate_row(key)
        return says, location

    async def _locate_row(self, key: Key) -> RowLocation | None:
        with trio.move_on_after(SPOOL_WITHIN_S), suppress(SpoolError):
            return await self.writer.locate_row(key)
        return None

    async def _ask(self, key: Key) -> StoreSays:
        try:
            with trio.fail_after(STORE_WITHIN_S):
                async with self._turn:
                    row = await self.writer.store.final_kline(*key)
        except trio.TooSlowError:
            return StoreSays(answered=False, error=f"no answer within {STORE_WITHIN_S} s")
        except StoreError as error:
            return StoreSays(answered=False, error=str(error))
        return StoreSays(answered=True, row=None if row is None else _row(row))

    def _verdict(
        self,
        series: Subscription | None,
        open_ms: int,
        says: StoreSays,
        location: RowLocation | None,
    ) -> tuple[State, str]:
        """Return the state, and a sentence that explains it."""
        if series is None:
            return _of_others(says, "The series is not running")
        ledger = series.ledger
        candle_state = candle_state_of(ledger, open_ms, series.context.time.now_ms())
        if candle_state is CandleState.NOT_COVERED:
            return _of_others(says, _beginning_of(series))
        if candle_state is CandleState.CLOSED:
            return _of_closed(says, location)
        state, explanation = _VERDICTS[candle_state]
        if (absence := ledger.absences.at(open_ms)) is not None:
            explanation = f"It will not come: {absence.mark.reason.value}."
        return state, explanation

    def _search(self, series: Subscription | None, open_ms: int, due_ms: int) -> Search | None:
        if series is None or (gap := series.ledger.gaps.at(open_ms)) is None:
            return None
        context = series.context
        now_ms = context.time.now_ms()
        attempts = series.attempts_at(gap.first_ms)
        retry_s = attempts.retry_at - trio.current_time() if attempts is not None else 0
        backoff_s = context.rest.budget.spending().backing_off_s
        if not self.writer.inserter.is_up:
            waits_for, wait_s = "the database, which is away", None
        elif backoff_s > max(retry_s, 0):
            waits_for, wait_s = "the exchange, which refused or did not answer", backoff_s
        elif retry_s > 0:
            waits_for, wait_s = "its retry delay, which grows with each attempt", retry_s
        else:
            waits_for, wait_s = "its turn", 0
        return Search(
            since=utc(due_ms),
            urgency=gap.mark.urgency.name.lower(),
            how=HOW[gap.mark.urgency],
            tries=0 if attempts is None else attempts.tries,
            error=gap.mark.error,
            waits_for=waits_for,
            next_try=None if wait_s is None else utc(now_ms + int(wait_s * SECOND_MS)),
        )


def _of_others(says: StoreSays, why_not: str) -> tuple[State, str]:
    """Return the state of a candle that the agent does not track: it may be there all the same."""
    if says.row is None:
        return "not_covered", f"{why_not}."
    return "stored", f"The database has it. {why_not}."


def _beginning_of(series: Subscription) -> str:
    if series.ledger.has_begun:
        return f"The series is tracked from {utc(series.ledger.first_ms)} on"
    obstacle = series.context.book.obstacle or "the exchange has not confirmed it yet"
    return f"The series has not begun: {obstacle}"


def _of_closed(says: StoreSays, location: RowLocation | None) -> tuple[State, str]:
    if says.row is not None:
        return "stored", "The database has it."
    if not says.answered:
        at = f", and waits in {location.value}" if location in _WAITING else ""
        return "closed", f"It was received{at}; the database does not answer whether it has it."
    if location in _WAITING:
        return "on_its_way", f"It was received, and waits in {location.value} for the database."
    if location is None:
        return (
            "closed",
            "It was received; the database does not have it, and the spool cannot be read.",
        )
    return (
        "lost",
        "It was received, but is neither stored nor waiting; the audit will fetch it again.",
    )


def _newest_event(series: Subscription | None, open_ms: int) -> str | None:
    newest = None if series is None else series.newest
    if newest is None or newest.open_time != open_ms:
        return None
    return utc(event_time_of(newest.version))


def _loss(series: Subscription | None, open_ms: int) -> Lost | None:
    if series is None or (loss := series.ledger.losses.at(open_ms)) is None:
        return None
    # Its mark is that of the first candle that was lost with it; others fell due later.
    closed_ms = series.interval.next_open(open_ms)
    found_ms = max(loss.found_ms, closed_ms)
    if loss.urgency is Urgency.MISSED:
        found_ms = max(found_ms, closed_ms + series.ledger.grace_ms)
    return Lost(
        how=HOW[loss.urgency],
        found=utc(found_ms),
        healed=None if loss.came_ms is None else utc(loss.came_ms),
    )


def _row(kline: Kline) -> StoredRow:
    return StoredRow(
        version=kline.version,
        event_time=utc(kline.event_time),
        open=kline.open,
        high=kline.high,
        low=kline.low,
        close=kline.close,
        volume=kline.volume,
        trades=kline.trades,
        source=kline.source,
    )
