"""Budgets that keep us inside the venue's limits."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import NoReturn

import trio
from attrs import define, field

from klineagent.kline import MINUTE_MS, SECOND_MS, Interval
from klineagent.market.clock import ExchangeTime

# Of the venue's weight per minute. The rest is for whoever shares our address, and for requests
# around the turn of a minute, which we may count to the minute before the exchange does.
OUR_SHARE = 0.8
# At a tenth of a second per answer this spends a minute's weight in twenty seconds.
MOST_UNDER_WAY = 10


class Pace:
    """At most `count` turns in any `window_s` seconds, given out in the order they were asked for.

    A turn is reserved when `turn` is called; one that is cancelled while it waits is lost, which
    errs on the side of the venue.
    """

    def __init__(self, count: int, window_s: float) -> None:
        self._window_s = window_s
        self._turns: deque[float] = deque(maxlen=count)

    async def turn(self) -> None:
        """Wait for the next free turn."""
        await trio.sleep_until(self._reserve(trio.current_time()))

    def _reserve(self, now: float) -> float:
        full = len(self._turns) == self._turns.maxlen
        at = max(now, self._turns[0] + self._window_s) if full else now
        self._turns.append(at)
        return at


@define(order=True)
class _Turn:
    """A request that waits: the most urgent first, of these the first that came."""

    urgency: int
    number: int
    weight: int = field(order=False)
    granted: trio.Event = field(factory=trio.Event, init=False, order=False)


@define(eq=False)
class WeightBudget:
    """Request weight per minute of the exchange's clock, spent on the most urgent requests first.

    What the exchange says that was used counts where it is more than what we know of: others may
    share the address. A refusal or a failure makes everybody stand down; then one request goes
    ahead, and the others follow when it was answered.
    """

    time: ExchangeTime
    weight_per_minute: int
    used: int = field(default=0, init=False)
    """Weight used in the present minute, ours and what was told of others."""
    _minute_ms: int = field(default=0, init=False)
    _under_way: dict[int, int] = field(factory=dict, init=False)
    """Weights of requests that were sent and not answered, by number."""
    _standing_down_until: float = field(default=-math.inf, init=False)
    _in_doubt: bool = field(default=False, init=False)
    """Whether the last answer was a failure: one request at a time then."""
    _waiting: list[_Turn] = field(factory=list, init=False)
    _blocked: trio.Event = field(factory=trio.Event, init=False)
    """Set when nothing but time can let the next request go ahead."""
    _numbers: count[int] = field(factory=count, init=False)

    @property
    def limit(self) -> int:
        """What may be used in a minute."""
        return int(self.weight_per_minute * OUR_SHARE)

    @asynccontextmanager
    async def spend(self, weight: int, urgency: int) -> AsyncIterator[None]:
        """Wait until `weight` may be spent; the request is made, and answered, in the block."""
        turn = _Turn(urgency, next(self._numbers), weight)
        heapq.heappush(self._waiting, turn)
        self._grant()
        try:
            await turn.granted.wait()
            yield
        finally:
            if self._under_way.pop(turn.number, None) is None:
                self._waiting.remove(turn)
                heapq.heapify(self._waiting)
            self._grant()

    def told(self, used: int) -> None:
        """The exchange has answered, and said what was used in this minute."""
        self._in_doubt = False
        self._turn_minute()
        self.used = max(self.used, used)

    def stand_down(self, seconds: float) -> None:
        """Send nothing for a while: a request was refused, or not answered."""
        self._in_doubt = True
        until = trio.current_time() + seconds
        self._standing_down_until = max(self._standing_down_until, until)

    def minute_left_s(self) -> float:
        """How long the present minute still lasts, by the exchange's clock."""
        return (MINUTE_MS - self.time.now_ms() % MINUTE_MS) / SECOND_MS

    async def keep_time(self) -> NoReturn:
        """Grant what waits for time to pass: the end of a minute, or of standing down."""
        while True:
            await self._blocked.wait()
            self._blocked = trio.Event()
            if self._is_standing_down:
                await trio.sleep_until(self._standing_down_until)
            else:
                await self.time.until(self._minute_ms + MINUTE_MS)
            self._grant()

    def _turn_minute(self) -> None:
        minute_ms = Interval.M1.open_at(self.time.now_ms())
        if minute_ms > self._minute_ms:
            self._minute_ms = minute_ms
            # Requests under way may be counted to either minute.
            self.used = sum(self._under_way.values())

    def _grant(self) -> None:
        """Let go ahead what may."""
        self._turn_minute()
        while self._waiting and not self._is_blocked and self._has_room:
            turn = heapq.heappop(self._waiting)
            self._under_way[turn.number] = turn.weight
            self.used += turn.weight
            turn.granted.set()
        if self._waiting and self._is_blocked:
            self._blocked.set()

    @property
    def _is_standing_down(self) -> bool:
        return trio.current_time() < self._standing_down_until

    @property
    def _is_blocked(self) -> bool:
        """Whether the next request has to wait for time to pass."""
        return self._is_standing_down or self.used + self._waiting[0].weight > self.limit

    @property
    def _has_room(self) -> bool:
        return len(self._under_way) < (1 if self._in_doubt else MOST_UNDER_WAY)
