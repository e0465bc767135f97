"""The backfill of one series: fetches missing candles by REST, the most urgent first."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

import trio
from attrs import define, field, frozen

from klineagent.core.errors import ExchangeError, ExchangeRefused, ExchangeUnreachable, NotSent
from klineagent.core.interval import HOUR_MS, SECOND_MS
from klineagent.core.kline import Kline
from klineagent.exchange.rest import CandleAnswer, Page
from klineagent.exchange.wire import RestCandle
from klineagent.series.backfill.attempts import Attempts
from klineagent.series.backfill.pages import (
    AGREE_AFTER_S,
    Evidence,
    Finding,
    Known,
    page_of,
    search_of,
)
from klineagent.series.context import VenueContext
from klineagent.series.ledger import Ledger
from klineagent.series.marks import (
    NOT_SHOWN,
    UNCONFIRMED,
    UNREADABLE,
    WITHHELD,
    Absence,
    Absent,
    Gap,
    Urgency,
)
from klineagent.series.spans import Span
from klineagent.series.statistics import newest_closed

# The retry delay after a refused request: it will be refused for a while.
REFUSED_DELAY_S = 60.0

# Shared by all series without attempts, which are nearly all.
_NONE: Mapping[int, Attempts] = MappingProxyType({})


@frozen
class _PageRequest:
    """A page to request, and the gaps that it covers."""

    page: Page
    end_ms: int
    """Where the gaps end; candles after them serve as proof."""
    is_search: bool = False
    """Whether the page comes from `search_of`, after an empty answer."""


@frozen
class _PendingRequest:
    """A request that waits for its turn or its answer."""

    urgency: Urgency
    waiting: trio.CancelScope
    """Cancelled if a more urgent gap comes up; ends the request only while it waits its turn."""


@define(eq=False, kw_only=True)
class Backfill:
    """Fills the gaps of one ledger and looks at its absences again."""

    symbol: str
    stream_name: str
    ledger: Ledger
    context: VenueContext
    newest_ms: int = field(default=0, init=False)
    """The newest open time that the stream has delivered."""
    _asleep: trio.lowlevel.Task | None = field(default=None, init=False)
    """The task of `run` while it waits for `wake`."""
    # By the first open time of the gap.
    _attempts: Mapping[int, Attempts] = field(default=_NONE, init=False)
    # Made only when a candle is missing: a market has 9,000 series.
    _remembered: Evidence | None = field(default=None, init=False)
    _pending: _PendingRequest | None = field(default=None, init=False)

    def wake(self) -> None:
        """Look for work: the ledger has changed."""
        if self._asleep is not None:
            trio.lowlevel.reschedule(self._asleep)
            self._asleep = None
        if self._pending is not None and self._is_outranked(self._pending.urgency):
            self._pending.waiting.cancel()

    @property
    def _evidence(self) -> Evidence:
        if self._remembered is None:
            self._remembered = Evidence(self.ledger.interval)
        return self._remembered

    def attempts_at(self, first_ms: int) -> Attempts | None:
        """Return the attempts to fill the gap that begins at `first_ms`; None before the first."""
        return self._attempts.get(first_ms)

    async def run(self) -> NoReturn:
        """Fill gaps as they come, and look again at absences when that is due."""
        while True:
            if self._attempts:
                self._forget_attempts()
            # One look at the clock: a delay that ended between two would not wake the task.
            delayed = self._delayed()
            if (gap := self.ledger.next_gap(but=delayed)) is not None:
                await self._fill(gap)
                continue
            if not self.ledger.gaps:
                self._remembered = None
            absence = self.ledger.due_absence(self.context.time.now_ms())
            if absence is not None:
                await self._look_again(absence)
                continue
            wake_at = self._due_at(delayed)
            # An event would do, but takes half a kilobyte more.
            self._asleep = trio.lowlevel.current_task()
            if wake_at == math.inf:  # nearly always, for nearly all series: saves the scope
                await trio.lowlevel.wait_task_rescheduled(self._sleep_ends)
                continue
            with trio.move_on_at(wake_at):
                await trio.lowlevel.wait_task_rescheduled(self._sleep_ends)

    def _due_at(self, delayed: Mapping[int, float]) -> float:
        """Return when a `delayed` gap may be tried, or an absence should be looked at again."""
        due_at = min(delayed.values(), default=math.inf)
        if (look_ms := self.ledger.next_look_ms()) is None:
            return due_at
        look_in_s = (look_ms - self.context.time.now_ms()) / SECOND_MS
        return min(due_at, trio.current_time() + look_in_s)

    def _sleep_ends(self, _: object) -> trio.lowlevel.Abort:
        self._asleep = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _forget_attempts(self) -> None:
        """Forget attempts at gaps that were filled, or became part of one that begins earlier."""
        firsts = {gap.first_ms for gap in self.ledger.gaps}
        left = {at: each for at, each in self._attempts.items() if at in firsts}
        self._attempts = left or _NONE

    def _delayed(self) -> dict[int, float]:
        """Return the gaps in a retry delay, by their first open times, and when it ends."""
        now = trio.current_time()
        return {at: each.retry_at for at, each in self._attempts.items() if each.retry_at > now}

    def _is_outranked(self, urgency: Urgency) -> bool:
        """Whether a more urgent gap is ready to be requested."""
        gap = self.ledger.next_gap(but=self._delayed())
        return gap is not None and gap.mark.urgency < urgency

    def _outranked_at(self, urgency: Urgency) -> float:
        """Return when the first more urgent gap leaves its retry delay."""
        gaps = self.ledger.gaps
        return min(
            (
                each.retry_at  # even if it has passed since the ledger was asked
                for at, each in self._attempts.items()
                if (gap := gaps.at(at)) and gap.mark.urgency < urgency
            ),
            default=math.inf,
        )

    async def _fill(self, gap: Gap) -> None:
        await self.context.room()
        if gap.first_ms not in self.ledger.gaps or self._is_outranked(gap.mark.urgency):
            return  # the ledger has changed meanwhile
        request = self._request_for(gap)
        self.context.counts.requests += 1
        now = trio.current_time()
        before = self._attempts.get(gap.first_ms, Attempts(now))
        try:
            answer = await self._ask(request.page, gap.mark.urgency)
        except NotSent:
            return
        except ExchangeUnreachable as error:
            self.ledger.fail(gap.first_ms, gap.end_ms, str(error))
            self._attempts = {**self._attempts, gap.first_ms: before.failed()}
        except ExchangeRefused as error:
            self.ledger.fail(gap.first_ms, gap.end_ms, str(error))
            refused = before.unsettled(trio.current_time(), least_s=REFUSED_DELAY_S, is_urgent=True)
            self._attempts = {**self._attempts, gap.first_ms: refused}
        else:
            await self._use(gap, request, answer)

    async def _ask(self, page: Page, urgency: Urgency) -> CandleAnswer:
        waiting = trio.CancelScope(deadline=self._outranked_at(urgency))
        self._pending = _PendingRequest(urgency, waiting)
        try:
            return await self.context.rest.candles(
                self.symbol, self.ledger.interval, page, urgency, waiting
            )
        finally:
            self._pending = None

    def _request_for(self, gap: Gap) -> _PageRequest:
        """Return a request for `gap` and for all other gaps that its page reaches."""
        ledger, venue = self.ledger, self.context.rest.venue
        first_ms, interval = gap.first_ms, ledger.interval
        attempts = self._attempts.get(first_ms)
        if attempts is not None and attempts.was_empty:
            now_ms = self.context.time.now_ms()
            page = search_of(first_ms, gap.end_ms, now_ms, interval, venue)
            return _PageRequest(page, gap.end_ms, is_search=True)
        reach_ms = interval.shifted(first_ms, venue.klines_page)
        end_ms = ledger.gaps.within(first_ms, reach_ms)[-1].end_ms
        page = page_of(first_ms, end_ms, interval, venue)
        return _PageRequest(page, min(end_ms, interval.open_at(page.last_ms)))

    async def _use(self, gap: Gap, request: _PageRequest, answer: CandleAnswer) -> None:
        """Publish the missing candles that the answer proves, and note what it does not settle."""
        ledger, context = self.ledger, self.context
        known = self._known()
        finding = self._evidence.read(request.page, answer, known, trio.current_time())
        healed = [candle for candle in finding.closed if candle.open_time in ledger.gaps]
        rows = [self._as_row(candle, answer.asked_at_ms) for candle in healed]
        now_ms = context.time.now_ms()
        for candle in healed:
            self._account(candle)
            ledger.close(candle.open_time, now_ms=now_ms)
        for open_ms in finding.off_grid:
            self._give_up(open_ms, ledger.interval.next_open(open_ms), Absent.OFF_GRID, answer)
        may_trade_without = known.trades and not known.has_every_candle
        why = Absent.NO_CANDLE if may_trade_without else Absent.NOT_TRADING
        for first_ms, end_ms in finding.absent:
            self._give_up(first_ms, end_ms, why, answer)
        self._evidence.forget_but(ledger.gaps)
        before = None if healed else self._attempts.get(gap.first_ms)
        self._retry_later(gap, request, finding, known, before)
        # Last: a writer without room may give rows up before this returns, and reopens them here.
        await context.publish(rows)

    def _known(self) -> Known:
        context = self.context
        return Known(
            has_every_candle=context.rest.venue.has_every_candle,
            trades=context.book.trades(self.symbol),
            newest_ms=max(newest_closed(self.ledger) or 0, self.newest_ms),
            halt=context.book.halt(self.symbol),
        )

    def _give_up(self, first_ms: int, end_ms: int, why: Absent, answer: CandleAnswer) -> None:
        candles = self.ledger.count(self.ledger.gaps.within(first_ms, end_ms))
        if candles and why is Absent.OFF_GRID:
            self.context.off_grid.happens(self.stream_name, candles)
        # Any moment will do that differs by series and is the same after a restart.
        into_hour_ms = zlib.crc32(self.stream_name.encode()) % HOUR_MS
        absence = Absence.proven(why, answer.asked_at_ms, into_hour_ms)
        self.ledger.give_up(first_ms, end_ms, absence)

    def _as_row(self, candle: RestCandle, answered_at_ms: int) -> Kline:
        """Convert a missing candle to a row; a repair outranks the row that it replaces."""
        kline = candle.as_closed(self.context.rest.venue.name, self.symbol, self.ledger.interval)
        gap = self.ledger.gaps.at(candle.open_time)
        if gap is None or not gap.mark.above_version:
            return kline
        return kline.as_repair(answered_at_ms, above_version=gap.mark.above_version)

    def _account(self, healed: RestCandle) -> None:
        """Count a fetched candle that the ledger still calls missing."""
        counts, gap = self.context.counts, self.ledger.gaps.at(healed.open_time)
        counts.healed += 1
        if gap is None or gap.mark.urgency is not Urgency.MISSED:
            return
        counts.missed += 1
        # A candle without trades is no proof that the stream fails.
        if healed.trades:
            self.context.pool.miss(self.stream_name)

    def _retry_later(
        self,
        gap: Gap,
        request: _PageRequest,
        finding: Finding,
        known: Known,
        before: Attempts | None,
    ) -> None:
        """Set retry delays for the gaps that the answer did not settle."""
        ledger, now = self.ledger, trio.current_time()
        first_ms = request.page.first_ms
        # At least one candle, or a page of odd rows would be requested without any delay.
        least_ms = ledger.interval.next_open(first_ms)
        end_ms = max(least_ms, min(request.end_ms, finding.shown_until_ms))
        if finding.is_empty and (request.is_search or not known.has_every_candle):
            first_ms, end_ms = gap.first_ms, gap.end_ms
        unsettled = ledger.gaps.within(first_ms, end_ms)
        for each in unsettled:
            ledger.fail(each.first_ms, each.end_ms, self._open_question(each, finding, known))
        changed: dict[int, Attempts] = {}
        # `fail` has given neighbours equal marks, so they are one gap now.
        for left in {left for each in unsettled if (left := ledger.gaps.at(each.first_ms))}:
            attempts = self._attempts.get(left.first_ms) or before or Attempts(now)
            if attempts.retry_at > now:  # the request was not for this gap
                continue
            is_doubtful = self._evidence.is_doubtful(left.first_ms, left.end_ms)
            changed[left.first_ms] = attempts.unsettled(
                now,
                least_s=AGREE_AFTER_S if is_doubtful else 0,
                is_urgent=known.trades and left.mark.urgency is not Urgency.HISTORY,
                was_empty=finding.is_empty,
                is_doubtful=is_doubtful,
                proven_at=self._evidence.proven_at(left.first_ms, left.end_ms),
            )
        self._attempts = {**self._attempts, **changed}

    def _open_question(self, gap: Gap, finding: Finding, known: Known) -> str:
        """Return why the answer did not settle `gap`, as users see it."""
        if self._evidence.has_rows(gap.first_ms, gap.end_ms):
            return UNCONFIRMED
        if not finding.is_whole:
            return UNREADABLE
        must_exist = known.has_every_candle and known.trades
        if must_exist and not self._evidence.is_skipped(gap.first_ms, gap.end_ms):
            return WITHHELD
        return NOT_SHOWN

    async def _look_again(self, absence: Span[Absence]) -> None:
        """Request candles again that are confirmed absent."""
        ledger, known, venue = self.ledger, self._known(), self.context.rest.venue
        first_ms, end_ms, interval = absence.first_ms, absence.end_ms, ledger.interval
        now_ms = self.context.time.now_ms()
        if known.has_every_candle:
            page = page_of(first_ms, end_ms, interval, venue)
        else:
            page = search_of(first_ms, end_ms, now_ms, interval, venue)
        try:
            answer = await self._ask(page, Urgency.HISTORY)
        except NotSent:
            return
        except ExchangeError:
            ledger.remark_absent(first_ms, end_ms, lambda mark: mark.postponed(now_ms))
            return
        shown = {interval.open_at(row.open_time): row for row in answer.candles}
        for open_ms, row in shown.items():
            is_odd = row.open_time != open_ms
            if first_ms <= open_ms < end_ms and not (
                is_odd and absence.mark.reason is Absent.OFF_GRID
            ):
                self.context.disproved.happens(self.stream_name)
                ledger.disprove(open_ms, interval.next_open(open_ms))
        confirmed_ms = interval.open_at(page.last_ms) if not known.trades else max(shown, default=0)
        if confirmed_ms <= first_ms:
            ledger.remark_absent(first_ms, end_ms, lambda mark: mark.postponed(now_ms))
        else:
            end_ms = min(end_ms, confirmed_ms)
            ledger.remark_absent(first_ms, end_ms, lambda mark: mark.confirmed(now_ms))
