"""The exchange's time, as far as it has told: the clock by which candles close."""

from __future__ import annotations

import heapq
import math
from itertools import count

import trio
from attrs import define, field

from klineagent.kline import SECOND_MS


@define(eq=False)
class _Waiter:
    """Someone who waits for a moment."""

    reached: trio.Event = field(factory=trio.Event, init=False)
    alarm: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Ends the wait should nobody say that the moment is reached; set for who is first in line."""
    has_left: bool = field(default=False, init=False)


@define(eq=False)
class ExchangeTime:
    """The newest time the exchange has named, plus what has passed here since.

    What it shows is late by the way of the message, and never early while the local clock does not
    run fast. So what it calls closed is closed; neither a wrong local clock nor an exchange that
    runs faster than time (a simulated one) confuses it.
    """

    _newest_ms: int = field(default=0, init=False)
    _heard_at: float = field(factory=trio.current_time, init=False)
    _known: trio.Event = field(factory=trio.Event, init=False)
    # Who waits for which moment, the earliest first; those who gave up stay until they are first,
    # or outnumber the others. Only the first has an alarm. So a clock that jumps is one alarm to
    # set again, whoever waits: Trio's does not run while the machine is suspended, and the
    # exchange's goes on.
    _waiting: list[tuple[int, int, _Waiter]] = field(factory=list, init=False)
    _order: count[int] = field(factory=count, init=False)
    _left: int = field(default=0, init=False)
    """How many of them gave up."""

    def hear(self, time_ms: int) -> None:
        """The exchange has said that it is `time_ms`."""
        if time_ms <= self._newest_ms:
            return
        self._newest_ms, self._heard_at = time_ms, trio.current_time()
        self._known.set()
        self._look()

    def now_ms(self) -> int:
        """What time it is there; counted from our start as long as the exchange has said nothing.

        So minutes pass also while nobody knows which.
        """
        return self._newest_ms + int((trio.current_time() - self._heard_at) * SECOND_MS)

    @property
    def is_known(self) -> bool:
        """Whether the exchange has told the time at all."""
        return self._known.is_set()

    def silent_s(self) -> float:
        """How long ago it last did."""
        return trio.current_time() - self._heard_at if self.is_known else math.inf

    async def known(self) -> None:
        """Wait until the exchange has told the time once."""
        await self._known.wait()

    async def until(self, time_ms: int) -> None:
        """Wait until the exchange's clock shows `time_ms`."""
        while self.now_ms() < time_ms:  # it goes back where an event was long on its way
            waiter = _Waiter()
            heapq.heappush(self._waiting, (time_ms, next(self._order), waiter))
            if self._is_first(waiter):
                self._look()
            try:
                with waiter.alarm:
                    await waiter.reached.wait()
            finally:
                if not waiter.reached.is_set():
                    self._leave(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        waiter.has_left = True
        self._left += 1
        if 2 * self._left > len(self._waiting):
            self._waiting = [each for each in self._waiting if not each[2].has_left]
            heapq.heapify(self._waiting)
            self._left = 0
            self._look()
        elif self._is_first(waiter):
            self._look()

    def _is_first(self, waiter: _Waiter) -> bool:
        return bool(self._waiting) and self._waiting[0][2] is waiter

    def _look(self) -> None:
        """Tell all whose moment is reached, and set the alarm of who is then the first."""
        now_ms = self.now_ms()
        while self._waiting:
            time_ms, _, first = self._waiting[0]
            if time_ms > now_ms and not first.has_left:
                alarm_at = trio.current_time() + (time_ms - now_ms) / SECOND_MS
                # One that is too early finds out, and is set again; setting it is what costs.
                if alarm_at < first.alarm.deadline:  # noqa: PLR1730
                    first.alarm.deadline = alarm_at
                return
            heapq.heappop(self._waiting)
            self._left -= first.has_left
            first.reached.set()
