"""The reconciler: starts wanted series in the registry and stops others, in small portions."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field

from klineagent.core.errors import ShuttingDown, SymbolLimitReached
from klineagent.core.interval import DAY_MS, Interval
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.series.desired.selection import (
    NONE,
    Intervals,
    Listings,
    Selection,
    SeriesSet,
    in_order,
    less,
)
from klineagent.series.registry import Registry

# Series between two checkpoints: their first steps take some 6 ms. With fewer, each of a market's
# starts would wait for a whole pass of a busy event loop.
STARTED_AT_ONCE = 30
# Candles of a delisted symbol that cannot be fetched within a day are given up.
GIVEN_UP_AFTER_MS = DAY_MS


@define(eq=False)
class Reconciler:
    """Starts and stops series as they are wanted; it leaves alone series started by others.

    A series of a delisted symbol is stopped when it is complete: when the candle that was open at
    the delisting has closed and none is missing.
    """

    registry: Registry
    held: dict[str, Intervals] = field(factory=dict, init=False)
    """The series that the reconciler has started and not stopped."""
    ending: SeriesSet = field(factory=dict, init=False)
    """The held series that are not wanted any more and not complete yet."""
    placeless: dict[str, str] = field(factory=dict, init=False)
    """Wanted symbols that wait for a place, and why."""
    _last_listed: dict[str, SymbolInfo] = field(factory=dict, init=False)
    """The last listed state of symbols that run; the list may not name them any more."""
    _delisted_ms: dict[str, int] = field(factory=dict, init=False)
    """When symbols were first seen to be delisted."""

    def hold(self, symbol: str, interval: Interval) -> None:
        """Hold a series that runs already and is wanted from now on."""
        self.held[symbol] = self.held.get(symbol, NONE) | {interval}

    def let_go(self, symbol: str, interval: Interval) -> None:
        """Let go a series that the caller stops."""
        self._release({symbol: frozenset({interval})})

    async def reconcile(
        self,
        wanted: SeriesSet,
        selection: Selection,
        listings: Listings,
        *,
        stale: trio.Event,
        still_wanted: Callable[[str], Intervals],
    ) -> None:
        """Run what is `wanted`, to which `selection` resolves; return early once that is `stale`.

        A series that is not `still_wanted` when its turn comes is not started.
        """
        self._last_listed = {
            symbol: info
            for symbol in self.held
            if (info := listings.get(symbol) or self._last_listed.get(symbol)) is not None
        }
        leaving = less(self.held, wanted)
        self.ending = self._incomplete(leaving, selection, listings, still_wanted)
        leaving = less(leaving, self.ending)
        self._release(leaving)
        await self.registry.drop(in_order(leaving))
        self.placeless, begun = {}, 0
        for symbol, intervals in wanted.items():
            if stale.is_set():
                return
            keeping = intervals & still_wanted(symbol)
            if keeping and self._keep(symbol, keeping):
                self.held[symbol] = self.held.get(symbol, NONE) | keeping
            begun += len(keeping)
            if begun >= STARTED_AT_ONCE:
                begun = 0
                await trio.lowlevel.checkpoint()

    def _keep(self, symbol: str, intervals: Intervals) -> bool:
        """Start `symbol` at all `intervals`; return whether there is a place for it."""
        not_running = [
            interval
            for _, interval in in_order({symbol: intervals})
            if self.registry.subscription(symbol, interval) is None
        ]
        if not not_running:
            return True
        try:
            for interval in not_running:
                self.registry.keep(symbol, interval)
        except SymbolLimitReached as refusal:
            self.placeless[symbol] = str(refusal)
            return False
        except ShuttingDown:
            return False
        return True

    def _incomplete(
        self,
        leaving: SeriesSet,
        selection: Selection,
        listings: Listings,
        still_wanted: Callable[[str], Intervals],
    ) -> SeriesSet:
        """Return the `leaving` series of delisted symbols that are not complete yet."""
        delisted = {
            symbol: info
            for symbol in leaving
            if (info := self._last_listed.get(symbol)) is not None
            and not (symbol in listings and info.is_listed)
        }
        if not delisted:
            self._delisted_ms = {}
            return {}
        now_ms = self.registry.context.time.now_ms()
        # At most now: the clock may have been ahead then, and was set back since.
        self._delisted_ms = {
            symbol: min(self._delisted_ms.get(symbol, now_ms), now_ms) for symbol in delisted
        }
        return {
            symbol: incomplete
            for symbol, info in delisted.items()
            # Series that would not be wanted even if they were listed are stopped at once.
            if (
                incomplete := frozenset(
                    interval
                    for interval in leaving[symbol]
                    & (selection.fitting(symbol, info) | still_wanted(symbol))
                    if not self._is_complete(symbol, interval, now_ms)
                )
            )
        }

    def _is_complete(self, symbol: str, interval: Interval, now_ms: int) -> bool:
        subscription = self.registry.subscription(symbol, interval)
        if subscription is None or not subscription.ledger.has_begun:
            return True
        ledger, delisted_ms = subscription.ledger, self._delisted_ms[symbol]
        if ledger.horizon_ms <= delisted_ms:
            return False
        last_close_ms = interval.close_of(interval.open_at(delisted_ms))
        if now_ms > last_close_ms + GIVEN_UP_AFTER_MS:
            return True
        # Candles that opened later do not exist; the proof for each need not be awaited.
        return all(gap.first_ms > delisted_ms for gap in ledger.gaps)

    def _release(self, series: SeriesSet) -> None:
        for symbol, intervals in series.items():
            if left := self.held.get(symbol, NONE) - intervals:
                self.held[symbol] = left
            else:
                self.held.pop(symbol, None)
