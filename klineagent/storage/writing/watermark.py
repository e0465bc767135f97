"""Up to when everything that the writer accepted is stored."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field, frozen


@frozen
class FlushPoint:
    """A moment, ordered even among those of one reading of the clock."""

    asked: int
    at: float
    """On Trio's clock."""


@define(eq=False)
class Watermark:
    """Rises as the writer finds that all it had accepted by some moment is stored."""

    _hurry: Callable[[], None]
    """Lets the writer store what waits without waiting for more."""
    stored_to: float | None = field(default=None, init=False)
    """On Trio's clock; None before the first such moment."""
    _asked: int = field(default=0, init=False)
    _passed: int = field(default=0, init=False)
    _rises: trio.Event = field(factory=trio.Event, init=False)

    def now(self) -> FlushPoint:
        """Note this moment, to rise to it later."""
        return FlushPoint(self._asked, trio.current_time())

    def rise(self, moment: FlushPoint) -> None:
        """Say that all that was accepted by `moment` is stored."""
        self.stored_to, self._passed = moment.at, moment.asked
        self._rises.set()
        self._rises = trio.Event()

    async def flush(self) -> None:
        """Return when all that was accepted so far is stored: never, while the store is away."""
        for _ in range(2):  # the task that collects accepted rows then had its turn
            await trio.lowlevel.checkpoint()
        self._asked += 1
        asked = self._asked
        self._hurry()
        while self._passed < asked:
            await self._rises.wait()
