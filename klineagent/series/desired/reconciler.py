"""Makes the registry run what is wanted, and lets go what is not, in small portions."""

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

# Of a symbol that is no more, what cannot be fetched within a day will not be.
GIVEN_UP_AFTER_MS = DAY_MS


@define(eq=False)
class Reconciler:
    """What runs because it is wanted; what others started in the registry is none of its business.

    A series whose symbol is delisted is let go when it is complete: when the candle that was open
    at that time, which nobody would fetch later, has closed and nothing is missing.
    """

    registry: Registry
    held: dict[str, Intervals] = field(factory=dict, init=False)
    """What runs, or should by now."""
    ending: SeriesSet = field(factory=dict, init=False)
    """What of it is not wanted any more, and not complete yet."""
    placeless: dict[str, str] = field(factory=dict, init=False)
    """Symbols that are wanted and wait for a place, and why."""
    _last_listed: dict[str, SymbolInfo] = field(factory=dict, init=False)
    """What the list said last of symbols that run; it may not name them any more."""
    _delisted_ms: dict[str, int] = field(factory=dict, init=False)
    """When they were first seen to be delisted."""

    def hold(self, symbol: str, interval: Interval) -> None:
        """It runs already, and is wanted from now on."""
        self.held[symbol] = self.held.get(symbol, NONE) | {interval}

    def let_go(self, symbol: str, interval: Interval) -> None:
        """Somebody else stops it."""
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
        """Run what is `wanted`, as `selection` resolves; give up once that is `stale`.

        What others have let go meanwhile, so that it is not `still_wanted`, is not started.
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
        self.placeless = {}
        for symbol, intervals in wanted.items():
            if stale.is_set():
                return
            keeping = intervals & still_wanted(symbol)
            if keeping and self._keep(symbol, keeping):
                self.held[symbol] = self.held.get(symbol, NONE) | keeping
            await trio.lowlevel.checkpoint()  # hundreds of them must not hold up everything else

    def _keep(self, symbol: str, intervals: Intervals) -> bool:
        """Have it run at all `intervals`; tell whether there is a place for it."""
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
        """What of `leaving` was delisted, or left the list, while its last candle was open."""
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
        # Now, where the clock was ahead when it was seen and was set back since.
        self._delisted_ms = {
            symbol: min(self._delisted_ms.get(symbol, now_ms), now_ms) for symbol in delisted
        }
        return {
            symbol: incomplete
            for symbol, info in delisted.items()
            # What would not be wanted either if it was listed goes at once.
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
        # What opened later does not exist; that it is proven of each need not be waited for.
        return all(gap.first_ms > delisted_ms for gap in ledger.gaps)

    def _release(self, series: SeriesSet) -> None:
        for symbol, intervals in series.items():
            if left := self.held.get(symbol, NONE) - intervals:
                self.held[symbol] = left
            else:
                self.held.pop(symbol, None)
