"""The deadlines of all series of a venue, by the exchange's clock: one task waits for all."""

from __future__ import annotations

import heapq
import math
from typing import NoReturn, Protocol

import trio
from attrs import define, field

from klineagent.exchange.clock.clock import ExchangeTime

# Between two checkpoints: at a full minute all of a market falls due. If all candles are missing,
# this takes 5 ms with the backfills that it wakes.
AT_ONCE = 32


class Punctual(Protocol):
    """Has one deadline after another."""

    entered: dict[Punctual, None]
    """All that is entered under the same deadline; kept by `Deadlines`."""

    def fall_due(self, now_ms: int) -> int:
        """Note that the deadline has passed, and return the next one, after `now_ms`."""

    def rewind(self, now_ms: int) -> int:
        """Undo what was done by a clock that was ahead, and return the next deadline."""


@define(eq=False)
class Deadlines:
    """Calls what is entered when its deadline has passed, and when the clock was set back."""

    _time: ExchangeTime
    # By deadline, few of which differ: an entry costs 40 bytes, and is removed at once. Dicts serve
    # as ordered sets, so that simulations repeat themselves.
    _entered: dict[int, dict[Punctual, None]] = field(factory=dict, init=False)
    _moments: list[int] = field(factory=list, init=False)
    """The deadlines, as a heap; one that nothing is entered under any more stays until then."""
    _waiting: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Cancelled when an earlier deadline is entered."""

    def enter(self, each: Punctual, due_ms: int) -> None:
        """Enter something under its deadline; it stays, whatever its deadline, until it leaves."""
        if due_ms not in self._entered:
            self._entered[due_ms] = {}
            heapq.heappush(self._moments, due_ms)
            if self._moments[0] == due_ms:
                self._waiting.cancel()
        each.entered = self._entered[due_ms]
        each.entered[each] = None

    def leave(self, each: Punctual) -> None:
        """Remove what was entered; it is gone already if `fall_due` or `rewind` has failed."""
        each.entered.pop(each, None)

    async def run(self) -> NoReturn:
        """Wait for the deadlines, and call what has reached its own."""
        reckoning = self._time.reckoning
        setbacks = reckoning.setbacks
        while True:
            if reckoning.setbacks != setbacks:
                setbacks = reckoning.setbacks
                await self._rewind_all()
            elif self._moments and self._moments[0] <= self._time.now_ms():
                self._call_some()
                await trio.lowlevel.checkpoint()
            else:
                with trio.CancelScope() as self._waiting:
                    await self._time.until(self._moments[0] if self._moments else math.inf)

    def _call_some(self) -> None:
        due = self._entered[self._moments[0]]
        for _ in range(min(len(due), AT_ONCE)):
            each, _ = due.popitem()
            self.enter(each, each.fall_due(self._time.now_ms()))
        if not due:
            del self._entered[heapq.heappop(self._moments)]

    async def _rewind_all(self) -> None:
        everything = [each for entered in self._entered.values() for each in entered]
        for number, each in enumerate(everything, 1):
            if each in each.entered:  # it may have left meanwhile
                self.leave(each)
                self.enter(each, each.rewind(self._time.now_ms()))
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
