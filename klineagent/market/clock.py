"""The exchange's time, as far as it has told: the clock by which candles close."""

from __future__ import annotations

import heapq
import math
from itertools import count

import trio
from attrs import define, field

from klineagent.kline import SECOND_MS


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
    # Who waits for a moment, the earliest first; those who gave up stay until it has come.
    _waiting: list[tuple[int, int, trio.Event]] = field(factory=list, init=False)
    _order: count[int] = field(factory=count, init=False)

    def hear(self, time_ms: int) -> None:
        """The exchange has said that it is `time_ms`."""
        if time_ms <= self._newest_ms:
            return
        self._newest_ms, self._heard_at = time_ms, trio.current_time()
        self._known.set()
        while self._waiting and self._waiting[0][0] <= time_ms:
            heapq.heappop(self._waiting)[2].set()

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
        while (left_ms := time_ms - self.now_ms()) > 0:
            reached = trio.Event()
            heapq.heappush(self._waiting, (time_ms, next(self._order), reached))
            with trio.move_on_after(left_ms / SECOND_MS):
                await reached.wait()
