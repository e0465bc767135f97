"""Weight budgets: all venues whose weight the exchange counts together spend it from one pool."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import NoReturn

import trio
from attrs import define, field, frozen

from klineagent.core.errors import NotSent
from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.turns import UNHURRIED, Turn, TurnQueue
from klineagent.exchange.venues import Venue

# The share of the weight per minute that we use. The remainder is for other programs at our
# address, and for requests around the turn of a minute, which the exchange may count to the next.
OUR_SHARE = 0.8
# Concurrent requests to one venue. At a tenth of a second each they spend a minute's weight in
# twenty seconds.
MOST_UNDER_WAY = 10
# What they may spend of our weight, so that what they have spent leaves healing its minute.
FORWARDED_SHARE = 0.2
# Beside the requests of the agent itself, which must not wait for one of these to be answered.
MOST_FORWARDED = 3
# The share of our weight that unhurried requests leave to urgent ones until 55 s into the minute,
# when it would be lost: urgent requests wait for seconds at most, and history takes no longer.
SPARED_SHARE = 0.2
SPARED_FOR_MS = 55_000


@frozen(kw_only=True)
class Spending:
    """The spending of the present minute's weight at one moment."""

    used: int
    """The weight used, by all venues of the pool and by others as far as the exchange reports."""
    limit: int
    """The weight that all venues of the pool together may use."""
    per_minute: int
    """The weight that the exchange allows."""
    under_way: int
    """The number of requests of this venue that were sent and not answered."""
    waiting: int
    """The number of requests of this venue that may not be sent yet."""
    backing_off_s: float
    """For how many seconds no request of this venue will be sent; 0 if requests may be sent."""


@define(eq=False)
class WeightPool:
    """Shares the weight per minute of our address among venues that the exchange counts together.

    It grants the most urgent turn of all venues first, equally urgent ones in order of arrival, and
    passes over venues that back off and turns that do not fit: what is left of a minute is lost
    with it, and the next minute begins with the turns that were passed over.

    The used weight that the exchange reports counts if it exceeds our own sum: others may share the
    address.
    """

    name: str
    weight_per_minute: int
    used: int = field(default=0, init=False)
    """See `Spending.used`."""
    forwarded: int = field(default=0, init=False)
    """What of it was spent for programs that read."""
    reported: int = field(default=0, init=False)
    """The highest used weight that the exchange has reported in this minute."""
    _budgets: list[WeightBudget] = field(factory=list, init=False)
    _time: ExchangeTime = field(factory=ExchangeTime, init=False)
    _minute_ms: int = field(default=0, init=False)
    limited_until: float = field(default=-math.inf, init=False)
    """When the limit that the exchange named ends."""
    arrivals: count[int] = field(factory=count, init=False)
    """Numbers the turns of all venues."""
    _waiting_for_time: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Cancelled when something happens that may change for what `keep_time` waits."""

    @property
    def limit(self) -> int:
        """The weight that we may use in a minute."""
        return int(self.weight_per_minute * OUR_SHARE)

    @property
    def weight_under_way(self) -> int:
        """The weight of requests of all venues that were sent and not answered."""
        return sum(each.weight_under_way for each in self._budgets)

    @property
    def time(self) -> ExchangeTime:
        """The clock by which minutes pass: the first that knew the exchange's time, and still runs.

        One for all venues: clocks that differ by some milliseconds would turn a minute twice.
        """
        if not self._time.is_known:
            known = (each.time for each in self._budgets if each.time.is_known)
            self._time = next(known, self._time)
        return self._time

    def join(self, time: ExchangeTime) -> WeightBudget:
        """Return the budget of another venue, whose clock is `time`."""
        if not self._budgets:
            self._time = time
        budget = WeightBudget(pool=self, time=time)
        self._budgets.append(budget)
        return budget

    def leave(self, budget: WeightBudget) -> None:
        """Forget the venue of `budget`; what it has used stays used."""
        self._budgets.remove(budget)
        if self._time is budget.time and self._budgets:
            self._time = self._budgets[0].time
        self.grant()

    def report_used(self, used: int) -> None:
        """Note that the exchange has reported `used` weight for this minute."""
        self.turn_minute()
        self.reported = max(self.reported, used)
        self.used = max(self.used, used)

    def obey_limit(self, seconds: float) -> None:
        """Send nothing for `seconds`; then one request of each venue goes ahead."""
        self.limited_until = max(self.limited_until, trio.current_time() + seconds)
        for budget in self._budgets:
            budget.in_doubt = True
        self.grant()

    async def keep_time(self) -> NoReturn:
        """Grant turns that wait for time to pass: for the end of a minute or of a backoff."""
        while True:
            with trio.CancelScope() as self._waiting_for_time:
                await self._until_next()
            self.grant()

    async def _until_next(self) -> None:
        """Wait until time alone lets the next request go ahead."""
        now = trio.current_time()
        ready = [each for each in self._budgets if each.has_room and each.waiting]
        held = [each.held_until for each in ready if each.held_until > now]
        with trio.move_on_at(min(held, default=math.inf)):
            if len(held) == len(ready):
                await trio.sleep_forever()
            ends_after_ms = SPARED_FOR_MS if self._is_sparing else MINUTE_MS
            await self.time.until(self._minute_ms + ends_after_ms)

    def turn_minute(self) -> None:
        """Begin the present minute, if it has not begun."""
        minute_ms = Interval.M1.open_at(self.time.now_ms())
        if minute_ms > self._minute_ms:
            # The exchange may count requests under way to either minute.
            self.used = self.weight_under_way
            self.forwarded = self.reported = 0
        # A clock that is set back by a moment must not turn the same minute twice; one that is set
        # back by more would stop the minutes.
        if minute_ms != self._minute_ms - MINUTE_MS:
            self._minute_ms = minute_ms

    def grant(self) -> None:
        """Grant all turns that may go ahead, and let `keep_time` wait anew for the others."""
        self.turn_minute()
        while (turn := self._next()) is not None:
            self.used += turn.weight
            self.forwarded += turn.weight if turn.is_forwarded else 0
            turn.budget.send(turn)
        self._waiting_for_time.cancel()

    def _next(self) -> Turn | None:
        """Return the turn that goes ahead now."""
        now = trio.current_time()
        turns = (
            turn
            for each in self._budgets
            if each.held_until <= now
            for turn in each.waiting.firsts()
            if each.has_room_for(turn) and self._fits(turn)
        )
        return min(turns, key=lambda turn: turn.rank, default=None)

    @property
    def most_forwarded(self) -> int:
        """The weight that programs that read may spend in a minute."""
        return int(self.limit * FORWARDED_SHARE)

    def may_forward(self, weight: int) -> bool:
        """Tell whether this minute leaves `weight` to programs that read."""
        self.turn_minute()
        return self.forwarded + weight <= self.most_forwarded

    def _fits(self, turn: Turn) -> bool:
        if turn.is_forwarded and not self.may_forward(turn.weight):
            return False
        spared = self.limit * SPARED_SHARE if turn.urgency >= UNHURRIED and self._is_sparing else 0
        return self.used + turn.weight <= self.limit - spared

    @property
    def _is_sparing(self) -> bool:
        return self.time.now_ms() < self._minute_ms + SPARED_FOR_MS


@define(eq=False, kw_only=True)
class WeightBudget:
    """Spends weight of a pool on the requests of one venue, ten at a time, and three forwarded.

    After a ban or a failure all requests of the venue back off; then one is sent, and the others
    follow once it was answered. A limit holds all venues of the pool.
    """

    pool: WeightPool
    time: ExchangeTime
    """The venue's clock."""
    waiting: TurnQueue = field(factory=TurnQueue, init=False)
    in_doubt: bool = field(default=False, init=False)
    """Whether the last request failed: then one request is sent at a time."""
    _under_way: dict[int, Turn] = field(factory=dict, init=False)
    """The turns of requests that were sent and not answered, by number."""
    _banned_until: float = field(default=-math.inf, init=False)
    """When the ban that the exchange named ends."""
    _failing_until: float = field(default=-math.inf, init=False)
    """When the backoff after a failed request ends."""

    @property
    def limit(self) -> int:
        """See `Spending.limit`."""
        return self.pool.limit

    @property
    def held_until(self) -> float:
        """When requests of the venue may be sent again."""
        return max(self.pool.limited_until, self._banned_until, self._failing_until)

    @property
    def has_room(self) -> bool:
        """Whether fewer requests of the agent itself are under way than the venue may have."""
        own_under_way = len(self._under_way) - self._forwarded_under_way
        return own_under_way < (1 if self.in_doubt else MOST_UNDER_WAY)

    def has_room_for(self, turn: Turn) -> bool:
        """Whether the request of `turn` may go beside those that are under way."""
        if not turn.is_forwarded:
            return self.has_room
        return not self.in_doubt and self._forwarded_under_way < MOST_FORWARDED

    @property
    def _forwarded_under_way(self) -> int:
        return sum(turn.is_forwarded for turn in self._under_way.values())

    @property
    def weight_under_way(self) -> int:
        """The weight of requests that were sent and not answered."""
        return sum(turn.weight for turn in self._under_way.values())

    def spending(self) -> Spending:
        """Return how far the present minute's weight is spent."""
        self.pool.turn_minute()
        return Spending(
            used=self.pool.used,
            limit=self.pool.limit,
            per_minute=self.pool.weight_per_minute,
            under_way=len(self._under_way),
            waiting=len(self.waiting),
            backing_off_s=max(0.0, self.held_until - trio.current_time()),
        )

    @asynccontextmanager
    async def spend(
        self, weight: int, urgency: int, waiting: trio.CancelScope | None = None
    ) -> AsyncIterator[None]:
        """Wait until `weight` may be spent; the block makes the request and awaits the answer.

        Cancelling `waiting` gives up the turn; once the turn was granted that has no effect.

        Raises:
            NotSent: `waiting` was cancelled before the turn was granted.
        """
        turn = Turn(self, next(self.pool.arrivals), weight, urgency)
        self.waiting.enter(turn)
        self.pool.grant()
        try:
            with waiting or trio.CancelScope():
                await turn.granted.wait()
            if not turn.granted.is_set():
                raise NotSent
            yield
        finally:
            self.waiting.leave(turn)
            self._under_way.pop(turn.number, None)
            self.pool.grant()

    def send(self, turn: Turn) -> None:
        """Let the request of `turn` go ahead."""
        self.waiting.leave(turn)
        self._under_way[turn.number] = turn
        turn.granted.set()

    def report_used(self, used: int) -> None:
        """Note that the exchange has answered and reported `used` weight for this minute."""
        self.in_doubt = False
        self.pool.report_used(used)

    def obey_limit(self, seconds: float) -> None:
        """Send nothing to any venue of the pool for `seconds`: the exchange has named a limit."""
        self.pool.obey_limit(seconds)

    def obey_ban(self, seconds: float) -> None:
        """Send nothing for `seconds`: the exchange has named a ban."""
        self.in_doubt = True
        self._banned_until = max(self._banned_until, trio.current_time() + seconds)
        self.pool.grant()

    def back_off(self, seconds: float) -> None:
        """Send nothing for `seconds`: a request was not answered, or its answer was unusable."""
        self.in_doubt = True
        self._failing_until = max(self._failing_until, trio.current_time() + seconds)
        self.pool.grant()

    def end_backoff(self) -> None:
        """End the backoff after a failure: the exchange is back. One request still goes ahead."""
        self._failing_until = -math.inf
        self.pool.grant()

    def minute_left_s(self) -> float:
        """Return for how many seconds the present minute still lasts, by the exchange's clock."""
        return (MINUTE_MS - self.pool.time.now_ms() % MINUTE_MS) / SECOND_MS


@define(eq=False)
class WeightPools:
    """The weight pools of our address; each begins with its first venue."""

    _nursery: trio.Nursery
    _pools: dict[str, WeightPool] = field(factory=dict, init=False)

    @contextmanager
    def budget(self, venue: Venue, time: ExchangeTime) -> Iterator[WeightBudget]:
        """Let `venue`, whose clock is `time`, spend from its pool as long as the block lasts."""
        if (pool := self._pools.get(venue.weight_pool)) is None:
            pool = WeightPool(venue.weight_pool, venue.weight_per_minute)
            self._pools[pool.name] = pool
            self._nursery.start_soon(pool.keep_time)
        budget = pool.join(time)
        try:
            yield budget
        finally:
            pool.leave(budget)


@asynccontextmanager
async def open_weight_pools() -> AsyncIterator[WeightPools]:
    """Open the weight pools of our address: one per process, for it knows no other's spending."""
    async with trio.open_nursery() as nursery:
        yield WeightPools(nursery)
        nursery.cancel_scope.cancel(reason="no venue is left")
