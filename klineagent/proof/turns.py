"""Turns: of several venues only one is struck at a time, and the others must not feel it."""

from __future__ import annotations

import math

import trio
from attrs import frozen

# Long enough for the longest fault and for an hour after it.
TURN_S = 2 * 3600.0


@frozen(kw_only=True)
class Turns:
    """Gives each venue in `names` a turn, then all of them one, and so on.

    What strikes all venues, as the store and the agent's end do, has its turn with all. A single
    venue's turn never ends.
    """

    names: tuple[str, ...]
    begin_s: float
    """When the first turn begins, by Trio's clock."""

    @property
    def _cycle(self) -> int:
        return len(self.names) + 1

    def share(self, name: str | None) -> float:
        """The part of the time in which the venue `name` is struck; None for all at once."""
        if len(self.names) == 1:
            return 1.0
        return (1 if name is None else 2) / self._cycle

    def alone(self, now_s: float) -> tuple[str | None, float]:
        """The only venue that is struck now, if others are spared, and since when."""
        if len(self.names) == 1:
            return None, self.begin_s
        turn = int((now_s - self.begin_s) // TURN_S)
        struck = turn % self._cycle
        name = self.names[struck] if struck < len(self.names) else None
        return name, self.begin_s + turn * TURN_S

    async def let_pass(self, name: str | None, seconds: float) -> float:
        """Wait for so many `seconds` of the venue's turns; return when the present one ends."""
        if len(self.names) == 1:
            await trio.sleep(seconds)
            return math.inf
        while True:
            struck, since_s = self.alone(trio.current_time())
            ends_s = since_s + TURN_S
            if struck is None or struck == name:
                left_s = ends_s - trio.current_time()
                if seconds < left_s:
                    await trio.sleep(seconds)
                    return ends_s
                seconds -= left_s
            await trio.sleep_until(ends_s)
