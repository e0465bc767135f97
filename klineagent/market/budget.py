"""Budgets that keep us inside the venue's limits."""

from __future__ import annotations

from collections import deque

import trio


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
