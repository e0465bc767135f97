"""The twin's clock: Trio's clock, set to another time and pace."""

from __future__ import annotations

import trio
from attrs import field, frozen

from klineagent.twin.interval import SECOND_MS


@frozen(kw_only=True)
class ExchangeClock:
    """Exchange time: it starts at `start_ms` and runs `speed` times as fast as Trio's clock.

    It is exact on a virtual clock. It must be created inside a Trio run.
    """

    start_ms: int
    speed: float = 1.0
    _started: float = field(init=False, factory=trio.current_time)

    def now_ms(self) -> int:
        """The exchange's time in milliseconds since the epoch."""
        return self.start_ms + round((trio.current_time() - self._started) * self.speed * SECOND_MS)

    async def sleep_until(self, time_ms: int) -> None:
        """Wait until the clock shows `time_ms`; return at once if that has passed."""
        await trio.sleep_until(self._started + (time_ms - self.start_ms) / self.speed / SECOND_MS)
