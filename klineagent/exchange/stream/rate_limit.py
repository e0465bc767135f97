"""Turns of messages and dials, at most so many in a window."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import trio


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
