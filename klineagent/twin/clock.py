"""The exchange's clock: the run's clock, set to another time and pace."""

from __future__ import annotations

import trio
from attrs import field, frozen

from klineagent.twin.interval import SECOND_MS


@frozen(kw_only=True)
class ExchangeClock:
    """Exchange time: `start_ms` when made, then `speed` times as fast as Trio's clock.

    With a virtual clock below it is exact; it must be made inside a Trio run.
    """

    start_ms: int
    speed: float = 1.0
    _started: float = field(init=False, factory=trio.current_time)

    def now_ms(self) -> int:
        """Milliseconds since the epoch, as the exchange tells them."""
        return self.start_ms + round((trio.current_time() - self._started) * self.speed * SECOND_MS)

    async def sleep_until(self, time_ms: int) -> None:
        """Return once the exchange's clock shows `time_ms`; at once if it has passed."""
        await trio.sleep_until(self._started + (time_ms - self.start_ms) / self.speed / SECOND_MS)
