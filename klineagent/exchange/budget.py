"""Budgets that keep requests, messages and dials inside the venue's limits."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import NoReturn

import trio
from attrs import define, field, frozen

from klineagent.core.errors import NotSent
from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.clock.clock import ExchangeTime

# The share of the venue's weight per minute that we use. The remainder is for other programs at our
# address, and for requests around the turn of a minute, which the exchange may count to the next.
OUR_SHARE = 0.8
# Concurrent requests. At a tenth of a second each they spend a minute's weight in twenty seconds.
MOST_UNDER_WAY = 10
# From this urgency on a request may wait for minutes: it fetches history.
UNHURRIED = 3
# The share of our weight that unhurried requests leave to urgent ones until 55 s into the minute,
# when it would be lost: urgent requests wait for seconds at most, and history takes no longer.
SPARED_SHARE = 0.2
SPARED_FOR_MS = 55_000


class RateLimiter:
    """Grants at most `count` turns in any `window_s` seconds, first come, first served.

    A turn is reserved when `turn` is called. If its wait is cancelled the turn is lost, so that the
    venue's limit is kept in any case.
    """

    def __init__(self, count: int, window_s: float) -> None:
        self.count = count
        self._window_s = window_s
        self._turns: deque[float] = deque(maxlen=count)

    @property
    def taken(self) -> int:
        """The number of turns reserved in the present window, those yet to come included."""
        begins_at = trio.current_time() - self._window_s
        return len(self._turns) - bisect_right(self._turns, begins_at)

    async def turn(self) -> None:
        """Wait for the next free turn."""
        await trio.sleep_until(self._reserve(trio.current_time()))

    def _reserve(self, now: float) -> float:
        full = len(self._turns) == self._turns.maxlen
        at = max(now, self._turns[0] + self._window_s) if full else now
        self._turns.append(at)
        return at


@define(eq=False)
class _Turn:
    """A request that waits for its turn."""

    number: int
    weight: int
    urgency: int
    granted: trio.Event = field(factory=trio.Event, init=False)


@define(eq=False)
class _Queue:
    """Holds the waiting turns, the most urgent first, equally urgent ones in order of arrival.

    Leaving is as cheap as entering: at a stop thousands of requests leave at once.
    """

    # By urgency, of which there are few, and then by number.
    _turns: dict[int, OrderedDict[int, _Turn]] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return sum(map(len, self._turns.values()))

    @property
    def first(self) -> _Turn | None:
        """The turn that is granted next; None if none waits."""
        urgency = min((each for each, turns in self._turns.items() if turns), default=None)
        return None if urgency is None else next(iter(self._turns[urgency].values()))

    def enter(self, turn: _Turn) -> None:
        """Append `turn` to those that are as urgent."""
        self._turns.setdefault(turn.urgency, OrderedDict())[turn.number] = turn

    def leave(self, turn: _Turn) -> None:
        """Remove `turn`, if it is in the queue."""
        for turns in self._turns.values():
            turns.pop(turn.number, None)


@frozen(kw_only=True)
class Spending:
    """The spending of the present minute's weight at one moment."""

    used: int
    """The weight used, by us and by others as far as the exchange reports it."""
    limit: int
    """The weight that we may use."""
    per_minute: int
    """The weight that the exchange allows."""
    under_way: int
    """The number of requests that were sent and not answered."""
    waiting: int
    """The number of requests that may not be sent yet."""
    backing_off_s: float
    """For how many seconds no request will be sent; 0 if requests may be sent."""


@define(eq=False)
class WeightBudget:
    """Spends the request weight of each minute, by the exchange's clock, on urgent requests first.

    The used weight that the exchange reports counts if it exceeds our own sum: others may share the
    address. After a refusal or a failure all requests back off; then one is sent, and the others
    follow once it was answered.
    """

    time: ExchangeTime
    weight_per_minute: int
    used: int = field(default=0, init=False)
    """The weight used in the present minute, see `Spending.used`."""
    _minute_ms: int = field(default=0, init=False)
    _under_way: dict[int, int] = field(factory=dict, init=False)
    """The weights of requests that were sent and not answered, by number."""
    _refused_until: float = field(default=-math.inf, init=False)
    """When the limit or ban that the exchange named ends."""
    _failing_until: float = field(default=-math.inf, init=False)
    """When the backoff after a failed request ends."""
    _in_doubt: bool = field(default=False, init=False)
    """Whether the last request failed: then one request is sent at a time."""
    _waiting: _Queue = field(factory=_Queue, init=False)
    _waiting_for_time: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Cancelled when something happens that may change for what `keep_time` waits."""
    _numbers: count[int] = field(factory=count, init=False)

    @property
    def limit(self) -> int:
        """The weight that we may use in a minute."""
        return int(self.weight_per_minute * OUR_SHARE)

    def spending(self) -> Spending:
        """Return how far the present minute's weight is spent."""
        self._turn_minute()
        return Spending(
            used=self.used,
            limit=self.limit,
            per_minute=self.weight_per_minute,
            under_way=len(self._under_way),
            waiting=len(self._waiting),
            backing_off_s=max(0.0, self._backing_off_until - trio.current_time()),
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
        turn = _Turn(next(self._numbers), weight, urgency)
        self._waiting.enter(turn)
        self._grant()
        try:
            with waiting or trio.CancelScope():
                await turn.granted.wait()
            if not turn.granted.is_set():
                raise NotSent
            yield
        finally:
            self._waiting.leave(turn)
            self._under_way.pop(turn.number, None)
            self._grant()

    def report_used(self, used: int) -> None:
        """Note that the exchange has answered and reported `used` weight for this minute."""
        self._in_doubt = False
        self._turn_minute()
        self.used = max(self.used, used)

    def obey_limit(self, seconds: float) -> None:
        """Send nothing for `seconds`: the exchange has named a limit or a ban."""
        self._in_doubt = True
        self._refused_until = max(self._refused_until, trio.current_time() + seconds)
        self._grant()

    def back_off(self, seconds: float) -> None:
        """Send nothing for `seconds`: a request was not answered, or its answer was unusable."""
        self._in_doubt = True
        self._failing_until = max(self._failing_until, trio.current_time() + seconds)
        self._grant()

    def end_backoff(self) -> None:
        """End the backoff after a failure: the exchange is back. One request still goes ahead."""
        self._failing_until = -math.inf
        self._grant()

    def minute_left_s(self) -> float:
        """Return for how many seconds the present minute still lasts, by the exchange's clock."""
        return (MINUTE_MS - self.time.now_ms() % MINUTE_MS) / SECOND_MS

    async def keep_time(self) -> NoReturn:
        """Grant turns that wait for time to pass: for the end of a minute or of a backoff."""
        while True:
            with trio.CancelScope() as self._waiting_for_time:
                await self._until_next()
            self._grant()

    async def _until_next(self) -> None:
        """Wait until time alone lets the next request go ahead."""
        turn = self._waiting.first
        if turn is None or not self._has_room:
            await trio.sleep_forever()
        elif self._is_backing_off:
            await trio.sleep_until(self._backing_off_until)
        else:
            ends_after_ms = SPARED_FOR_MS if self._is_sparing else MINUTE_MS
            await self.time.until(self._minute_ms + ends_after_ms)

    def _turn_minute(self) -> None:
        minute_ms = Interval.M1.open_at(self.time.now_ms())
        if minute_ms > self._minute_ms:
            # The exchange may count requests under way to either minute.
            self.used = sum(self._under_way.values())
        self._minute_ms = minute_ms  # an earlier one where the clock was set back

    def _grant(self) -> None:
        """Grant all turns that may go ahead, and let `keep_time` wait anew for the others."""
        self._turn_minute()
        while (turn := self._waiting.first) is not None and self._may_go(turn):
            self._waiting.leave(turn)
            self._under_way[turn.number] = turn.weight
            self.used += turn.weight
            turn.granted.set()
        self._waiting_for_time.cancel()

    def _may_go(self, turn: _Turn) -> bool:
        spared = self.limit * SPARED_SHARE if turn.urgency >= UNHURRIED and self._is_sparing else 0
        fits = self.used + turn.weight <= self.limit - spared
        return self._has_room and fits and not self._is_backing_off

    @property
    def _is_sparing(self) -> bool:
        return self.time.now_ms() < self._minute_ms + SPARED_FOR_MS

    @property
    def _backing_off_until(self) -> float:
        return max(self._refused_until, self._failing_until)

    @property
    def _is_backing_off(self) -> bool:
        return trio.current_time() < self._backing_off_until

    @property
    def _has_room(self) -> bool:
        return len(self._under_way) < (1 if self._in_doubt else MOST_UNDER_WAY)
