"""Budgets that keep us inside the venue's limits."""

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

# Of the venue's weight per minute. The rest is for whoever shares our address, and for requests
# around the turn of a minute, which we may count to the minute before the exchange does.
OUR_SHARE = 0.8
# At a tenth of a second per answer this spends a minute's weight in twenty seconds.
MOST_UNDER_WAY = 10
# From this urgency on a request may wait for minutes: it is about history.
UNHURRIED = 3
# Of our weight these leave this much to more urgent requests, until the minute is nearly over and
# it would be lost: so they are through as soon, and who is in a hurry waits for seconds at most.
SPARED_SHARE = 0.2
SPARED_FOR_MS = 55_000


class RateLimiter:
    """At most `count` turns in any `window_s` seconds, given out in the order they were asked for.

    A turn is reserved when `turn` is called; one that is cancelled while it waits is lost, which
    errs on the side of the venue.
    """

    def __init__(self, count: int, window_s: float) -> None:
        self.count = count
        self._window_s = window_s
        self._turns: deque[float] = deque(maxlen=count)

    @property
    def taken(self) -> int:
        """How many turns of the present window are reserved, those to come included."""
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
    """A request that waits."""

    number: int
    weight: int
    urgency: int
    granted: trio.Event = field(factory=trio.Event, init=False)


@define(eq=False)
class _Queue:
    """Turns that wait: the most urgent first, of these the first that came.

    Leaving it is as cheap as entering: at a stop thousands give up at once.
    """

    # By urgency, of which there are a few, and by number.
    _turns: dict[int, OrderedDict[int, _Turn]] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return sum(map(len, self._turns.values()))

    @property
    def first(self) -> _Turn | None:
        """Whose turn is next, if anybody waits."""
        urgency = min((each for each, turns in self._turns.items() if turns), default=None)
        return None if urgency is None else next(iter(self._turns[urgency].values()))

    def enter(self, turn: _Turn) -> None:
        """Wait behind all that are as urgent."""
        self._turns.setdefault(turn.urgency, OrderedDict())[turn.number] = turn

    def leave(self, turn: _Turn) -> None:
        """Wait no more, if it does."""
        for turns in self._turns.values():
            turns.pop(turn.number, None)


@frozen(kw_only=True)
class Spending:
    """How far the budget of a minute is spent."""

    used: int
    """Weight, ours and what was told of others."""
    limit: int
    """What we may use of it."""
    per_minute: int
    """What the exchange allows."""
    under_way: int
    """Requests that were sent and not answered."""
    waiting: int
    """Requests that may not be sent yet."""
    backing_off_s: float
    """How long nothing will be sent; 0 if something may."""


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
    _refused_until: float = field(default=-math.inf, init=False)
    """Until then the exchange has asked us to stay away."""
    _failing_until: float = field(default=-math.inf, init=False)
    """Until then a request would be likely to fail as the last one did."""
    _in_doubt: bool = field(default=False, init=False)
    """Whether the last answer was a failure: one request at a time then."""
    _waiting: _Queue = field(factory=_Queue, init=False)
    _waiting_for_time: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Cancelled when something happens that may change what is waited for."""
    _numbers: count[int] = field(factory=count, init=False)

    @property
    def limit(self) -> int:
        """What may be used in a minute."""
        return int(self.weight_per_minute * OUR_SHARE)

    def spending(self) -> Spending:
        """How things stand at this moment."""
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
        """Wait until `weight` may be spent; the request is made, and answered, in the block.

        Raises:
            NotSent: `waiting` was cancelled before; later that changes nothing any more.
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
        """The exchange has answered, and said what was used in this minute."""
        self._in_doubt = False
        self._turn_minute()
        self.used = max(self.used, used)

    def obey_limit(self, seconds: float) -> None:
        """Send nothing for a while: the exchange has named a limit, or a ban."""
        self._in_doubt = True
        self._refused_until = max(self._refused_until, trio.current_time() + seconds)
        self._grant()

    def back_off(self, seconds: float) -> None:
        """Send nothing for a while: a request was not answered, or not as it should have been."""
        self._in_doubt = True
        self._failing_until = max(self._failing_until, trio.current_time() + seconds)
        self._grant()

    def end_backoff(self) -> None:
        """The exchange is there again: what failed need not be waited for, but one goes ahead."""
        self._failing_until = -math.inf
        self._grant()

    def minute_left_s(self) -> float:
        """How long the present minute still lasts, by the exchange's clock."""
        return (MINUTE_MS - self.time.now_ms() % MINUTE_MS) / SECOND_MS

    async def keep_time(self) -> NoReturn:
        """Grant what waits for time to pass: the end of a minute, or of standing down."""
        while True:
            with trio.CancelScope() as self._waiting_for_time:
                await self._until_next()
            self._grant()

    async def _until_next(self) -> None:
        """Wait until the next request may go ahead, if nothing else happens."""
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
            # Requests under way may be counted to either minute.
            self.used = sum(self._under_way.values())
        self._minute_ms = minute_ms  # an earlier one where the clock was set back

    def _grant(self) -> None:
        """Let go ahead what may, and see anew to what the others wait for."""
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
