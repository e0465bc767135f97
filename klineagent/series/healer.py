"""Fetches what a series lacks, the most urgent first, until nothing is missing."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
import trio
from attrs import define, evolve, field, frozen

from klineagent.errors import ExchangeRefused, ExchangeUnreachable
from klineagent.kline import Kline
from klineagent.market.clock import ExchangeTime
from klineagent.market.pool import Pool
from klineagent.market.rest import CandleAnswer, Page, RestClient
from klineagent.market.symbols import SymbolBook
from klineagent.market.wire import RestCandle
from klineagent.series.healing import find, page_of
from klineagent.series.ledger import Absence, Absent, Hole, Ledger, MissingCounts, Urgency
from klineagent.series.recall import Recall
from klineagent.trouble import TELL_AGAIN_AFTER_S

# Between two looks at a hole that an answer did not settle: at first a second, for REST may lag
# behind the stream; at last a minute, or ten where the symbol does not trade.
FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
LONGEST_IDLE_REST_S = 600.0
# A request that was refused is wrong, and will be for a while.
REFUSED_REST_S = 60.0

log = structlog.get_logger()


@define(kw_only=True)
class HealingCounts:
    """What healing has done so far."""

    healed: int = 0
    """Candles fetched that were missing."""
    missed: int = 0
    """Of these, such whose closing event did not come in time."""
    requests: int = 0


@define
class Misses:
    """Tells of candles that were not closed in time: at once, and then once a minute."""

    _count: int = field(default=0, init=False)
    _told_at: float = field(default=-math.inf, init=False)

    def note(self, stream_name: str) -> None:
        """The deadline of a candle of that stream has passed."""
        self._count += 1
        now = trio.current_time()
        if now - self._told_at >= TELL_AGAIN_AFTER_S:
            log.warning("candles_missed", deadlines=self._count, newest=stream_name)
            self._count, self._told_at = 0, now


@frozen(kw_only=True)
class Means:
    """What subscriptions share and work with."""

    pool: Pool
    book: SymbolBook
    rest: RestClient
    time: ExchangeTime
    recall: Recall
    klines: trio.MemorySendChannel[list[Kline]]
    room: Callable[[], Awaitable[None]]
    """Waits until there is room for rows that are fetched: the store may be away."""
    grace_ms: int
    counts: HealingCounts = field(factory=HealingCounts)
    tally: MissingCounts = field(factory=MissingCounts)
    misses: Misses = field(factory=Misses)


@frozen
class Attempts:
    """What was done in vain for a hole, and when it is looked at again."""

    tries: int
    """Requests that did not fill it, answered or not."""
    rests: int = 0
    """Of these, such that it was left alone after."""
    resting_until: float = -math.inf
    """By Trio's clock; what is past does not count: then it waits for its turn."""


@define(eq=False, kw_only=True)
class Healer:
    """Fills the holes of one ledger."""

    symbol: str
    stream_name: str
    ledger: Ledger
    means: Means
    _news: trio.Event = field(factory=trio.Event, init=False)
    # By the open time that a hole begins with.
    _attempts: dict[int, Attempts] = field(factory=dict, init=False)

    def look(self) -> None:
        """There may be something to do."""
        self._news.set()

    def attempts_at(self, first_ms: int) -> Attempts | None:
        """What was tried for the hole that begins at `first_ms`, if anything was in vain."""
        return self._attempts.get(first_ms)

    async def heal(self) -> NoReturn:
        """Fill holes as they come."""
        while True:
            # A hole may have been filled since, or become part of one that begins earlier.
            firsts = {hole.first_ms for hole in self.ledger.holes} if self._attempts else set()
            self._attempts = {at: each for at, each in self._attempts.items() if at in firsts}
            now = trio.current_time()
            resting = {
                at: each.resting_until
                for at, each in self._attempts.items()
                if each.resting_until > now
            }
            if (hole := self.ledger.next_hole(but=resting)) is not None:
                await self._fill(hole)
                continue
            self._news = trio.Event()
            if not resting:  # nearly always, in nearly all of 9,000 healers: no scope for that
                await self._news.wait()
                continue
            with trio.move_on_at(min(resting.values())):
                await self._news.wait()

    async def _fill(self, hole: Hole) -> None:
        await self.means.room()
        page = page_of(hole.first_ms, hole.end_ms, self.ledger.interval, self.means.rest.venue)
        self.means.counts.requests += 1
        try:
            answer = await self.means.rest.candles(
                self.symbol, self.ledger.interval, page, hole.mark.urgency
            )
        except ExchangeUnreachable as error:
            self.ledger.fail(hole.first_ms, hole.end_ms, str(error))
            # No rest of its own: everybody stands down.
            before = self._attempts.get(hole.first_ms, Attempts(0))
            self._attempts[hole.first_ms] = evolve(before, tries=before.tries + 1)
        except ExchangeRefused as error:
            self.ledger.fail(hole.first_ms, hole.end_ms, str(error))
            self._rest(hole.first_ms, REFUSED_REST_S)
        else:
            await self._use(hole, page, answer)

    async def _use(self, hole: Hole, page: Page, answer: CandleAnswer) -> None:
        """Hand on what `answer` has of the missing candles, and note what it has not."""
        ledger, means = self.ledger, self.means
        finding = find(page, answer, ledger.interval)
        missing = [candle for candle in finding.closed if candle.open_time in ledger.holes]
        await means.klines.send([self._as_row(candle, answer.asked_at_ms) for candle in missing])
        for candle in missing:
            ledger.close(candle.open_time)
        why = Absent.NO_CANDLE if means.book.trades(self.symbol) else Absent.NOT_TRADING
        for first_ms, end_ms in finding.absent:
            ledger.forgo(first_ms, end_ms, Absence.proven(why, answer.asked_at_ms))
        self._account(hole, missing)
        unproven_ms = max(hole.first_ms, finding.proven_until_ms)
        if unproven_ms < min(hole.end_ms, ledger.interval.next_open(page.last_ms)):
            if not missing and hole.first_ms in self._attempts:
                # Only age has told of some of it: it is as quiet as it was.
                self._attempts[unproven_ms] = self._attempts[hole.first_ms]
            self._rest(unproven_ms, FIRST_REST_S)

    def _as_row(self, candle: RestCandle, told_at_ms: int) -> Kline:
        """What is stored of a candle that is missing; a correction outranks the row it corrects."""
        kline = candle.as_closed(self.means.rest.venue.name, self.symbol, self.ledger.interval)
        hole = self.ledger.holes.at(candle.open_time)
        if hole is None or not hole.mark.above_version:
            return kline
        return kline.as_repair(told_at_ms, above_version=hole.mark.above_version)

    def _account(self, hole: Hole, healed: list[RestCandle]) -> None:
        counts, pool = self.means.counts, self.means.pool
        counts.healed += len(healed)
        if hole.mark.urgency is not Urgency.MISSED:
            return
        counts.missed += len(healed)
        for candle in healed:
            # A stream is not to blame for silence where nothing was traded.
            if candle.trades:
                pool.miss(self.stream_name)

    def _rest(self, first_ms: int, first_rest_s: float) -> None:
        """Leave the hole that begins at `first_ms` alone for a while, each time for longer."""
        before = self._attempts.get(first_ms, Attempts(0))
        is_trading = self.means.book.trades(self.symbol)
        longest_s = LONGEST_REST_S if is_trading else LONGEST_IDLE_REST_S
        rest_s = min(first_rest_s * 2 ** min(before.rests, 20), longest_s)
        self._attempts[first_ms] = Attempts(
            before.tries + 1, before.rests + 1, trio.current_time() + rest_s
        )
