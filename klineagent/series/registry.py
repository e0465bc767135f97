"""The registry of running subscriptions: add, remove, list."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from functools import partial
from sys import intern

import trio
from attrs import define, field, frozen

from klineagent.core.errors import (
    InvalidRequest,
    NotRunning,
    ShuttingDown,
    SymbolLimitReached,
)
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from klineagent.exchange.venues import Venue
from klineagent.series.context import VenueContext
from klineagent.series.subscription import Phase, Subscription

UNSUBSCRIBE_TIMEOUT_S = 5
# Between two checkpoints: thousands of cancellations must not hold up other tasks.
DROPPED_AT_ONCE = 32


@frozen
class SubscriptionInfo:
    """A subscription as listings show it."""

    symbol: str
    interval: Interval
    created_at: str
    """The time in ISO 8601, UTC."""
    is_active: bool
    """Whether a connection carries its stream."""


@define(eq=False)
class Places:
    """The symbols that an agent may record, all its venues together."""

    most: int
    _reserved: Counter[str] = field(factory=Counter, init=False)
    """The number of symbols with the first claim, by venue, as long as it is not open."""
    _taken: Counter[str] = field(factory=Counter, init=False)
    """The number of symbols that run, by venue."""
    _watchers: list[Callable[[], None]] = field(factory=list, init=False)

    def taken_by_others(self, venue: str) -> int:
        """Count the symbols that run, or have a place reserved, on other venues than that one."""
        others = (self._taken | self._reserved).items()
        return sum(symbols for other, symbols in others if other != venue)

    def take(self, venue: str, symbol: str) -> None:
        """Take a place for `symbol`.

        Raises:
            SymbolLimitReached: there is none.
        """
        if self.taken_by_others(venue) + self._taken[venue] >= self.most:
            raise SymbolLimitReached(
                f"symbol: {symbol} would be one more than the {self.most} symbols allowed"
            )
        self._taken[venue] += 1

    def leave(self, venue: str) -> None:
        """Give a place back."""
        self._taken[venue] -= 1
        self._has_changed()

    def reserve(self, venue: str, symbols: int) -> None:
        """Keep that many places from other venues until `end_reservation`."""
        self._reserved[venue] = symbols

    def end_reservation(self, venue: str) -> None:
        """Give back the places reserved for `venue` that it has not taken."""
        if self._reserved.pop(venue, 0) > self._taken[venue]:
            self._has_changed()

    def watch(self, has_changed: Callable[[], None]) -> None:
        """Call `has_changed` from now on whenever a place becomes free."""
        self._watchers.append(has_changed)

    def _has_changed(self) -> None:
        for has_changed in self._watchers:
            has_changed()


@define(eq=False, kw_only=True)
class Registry:
    """Holds all subscriptions of one venue, as far as there are `places` for its symbols."""

    context: VenueContext
    places: Places
    _nursery: trio.Nursery
    _log_context: Context
    """What log lines of subscriptions carry, whichever task starts them."""
    _entries: dict[tuple[str, Interval], Subscription] = field(factory=dict, init=False)
    """Subscriptions whose task has not ended."""
    _intervals: Counter[str] = field(factory=Counter, init=False)
    """The number of running intervals, by symbol."""

    @property
    def venue(self) -> Venue:
        """The venue of all subscriptions."""
        return self.context.rest.venue

    def count(self) -> int:
        """Count the subscriptions."""
        return len(self._entries)

    def symbols(self) -> list[str]:
        """Return the symbols of all subscriptions, sorted."""
        return sorted(self._intervals)

    def subscriptions(self) -> list[Subscription]:
        """Return all subscriptions in the order in which they were added."""
        return [*self._entries.values()]

    def listing(self) -> list[SubscriptionInfo]:
        """List all subscriptions."""
        return [
            SubscriptionInfo(each.symbol, each.interval, each.created_at, each.is_active)
            for each in self.subscriptions()
        ]

    def subscription(self, symbol: str, interval: Interval) -> Subscription | None:
        """Return the subscription to that series, if it runs or is starting."""
        return self._entries.get((symbol, interval))

    def missing(self) -> int:
        """Count the candles that are missing at this moment."""
        return sum(each.ledger.missing for each in self.subscriptions())

    def refetch(self, klines: Iterable[Kline]) -> None:
        """Fetch closed candles again whose rows were lost before they were stored."""
        for kline in klines:
            if (subscription := self._subscription_of(kline)) is not None:
                subscription.refetch(kline)

    def set_aside(self, klines: Iterable[Kline]) -> None:
        """Give up closed candles whose rows the store refuses for good."""
        for kline in klines:
            if (subscription := self._subscription_of(kline)) is not None:
                now_ms = subscription.context.time.now_ms()
                subscription.ledger.set_aside(kline.open_time, now_ms=now_ms)

    def watched(self, kline: Kline) -> bool:
        """Whether the series of `kline` ran when that candle closed."""
        subscription = self._subscription_of(kline)
        return subscription is not None and 0 < subscription.ledger.began_ms <= kline.open_time

    def _subscription_of(self, kline: Kline) -> Subscription | None:
        return self.subscription(kline.symbol, Interval(kline.interval))

    def obstacle(self) -> str:
        """Return why no subscription can be confirmed at this moment; empty if that is unknown."""
        return self.context.book.obstacle

    def keep(self, symbol: str, interval: Interval) -> None:
        """Start a subscription, however long it takes to reach the exchange.

        A subscription that exists, even one about to end, is left as it is.

        Raises:
            InvalidRequest: the venue has no such interval.
            SymbolLimitReached: there is no place for one symbol more.
            ShuttingDown: the registry is closing.
        """
        self._check(interval)
        if (symbol, interval) in self._entries:
            return
        self._start(symbol, interval, patiently=True).enter(Phase.SETTLED)

    async def add(self, symbol: str, interval: Interval) -> bool:
        """Start a subscription and wait until the exchange has confirmed it.

        The caller sets the deadline; if it passes, or anything else fails, the subscription ends.

        Returns:
            Whether it was started; False if it ran already.

        Raises:
            InvalidRequest: the venue has no such interval, or does not trade the symbol.
            SymbolLimitReached: there is no place for one symbol more.
            ShuttingDown: the registry is closing.
        """
        self._check(interval)
        if await self._runs(symbol, interval):
            return False
        # Checked before a place under the limit is taken, which another symbol may need.
        await self.context.book.check(symbol)
        if await self._runs(symbol, interval):
            return False
        started = self._start(symbol, interval, patiently=False)
        try:
            await started.reached(Phase.SETTLED)
        except trio.Cancelled:
            # Even if it has settled at this moment: the caller will not learn of it.
            started.scope.cancel(reason="the caller gave up")
            with trio.move_on_after(UNSUBSCRIBE_TIMEOUT_S, shield=True):
                await started.reached(Phase.ENDED)
            raise
        if started.phase is Phase.ENDED:
            raise started.refusal or ShuttingDown("the agent is shutting down")
        return True

    async def remove(self, symbol: str, interval: Interval) -> None:
        """Stop a subscription and wait, within bounds, until the exchange has stopped sending it.

        Raises:
            NotRunning: there is no such subscription.
        """
        running = self._entries.get((symbol, interval))
        if running is None or running.phase < Phase.SETTLED:
            raise NotRunning(f"{symbol} {interval} does not run")
        running.scope.cancel(reason="removed")
        with trio.move_on_after(UNSUBSCRIBE_TIMEOUT_S):
            await running.reached(Phase.ENDED)
            await self.context.pool.gone(running.stream_name)

    async def drop(self, series: Iterable[tuple[str, Interval]]) -> None:
        """Stop the subscriptions to `series` and wait until they ended, not for the exchange."""
        ending = [running for each in series if (running := self._entries.get(each)) is not None]
        for number, each in enumerate(ending, 1):
            each.scope.cancel(reason="not wanted any more")
            if number % DROPPED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        for each in ending:
            await each.reached(Phase.ENDED)

    def _check(self, interval: Interval) -> None:
        if interval not in self.venue.intervals:
            raise InvalidRequest(f"interval: {self.venue.name} has no {interval} klines")

    async def _runs(self, symbol: str, interval: Interval) -> bool:
        """Whether it runs, once concurrent calls that add or remove it are done."""
        while (running := self._entries.get((symbol, interval))) is not None:
            if running.scope.cancel_called:
                await running.reached(Phase.ENDED)
                continue
            await running.reached(Phase.SETTLED)
            if running.phase is not Phase.ENDED:
                return True
        return False

    def _start(self, symbol: str, interval: Interval, *, patiently: bool) -> Subscription:
        """Start a new subscription.

        Raises:
            SymbolLimitReached: there is no place for one symbol more.
            ShuttingDown: the registry is closing.
        """
        if self._nursery.cancel_scope.cancel_called:
            raise ShuttingDown("the agent is shutting down")
        if symbol not in self._intervals:
            self.places.take(self.venue.name, symbol)
        symbol = intern(symbol)  # one text for all its intervals
        subscription = Subscription(symbol=symbol, interval=interval, context=self.context)
        self._entries[symbol, interval] = subscription
        self._intervals[symbol] += 1
        run = partial(self._nursery.start_soon, name="subscription")  # 33,000 share the name
        self._log_context.run(run, self._run, subscription, patiently)
        return subscription

    async def _run(self, subscription: Subscription, patiently: bool) -> None:
        try:
            await subscription.hold(patiently=patiently)
        except* InvalidRequest as refusals:
            [subscription.refusal] = refusals.exceptions
        finally:
            del self._entries[subscription.symbol, subscription.interval]
            self._intervals.subtract([subscription.symbol])
            if not self._intervals[subscription.symbol]:
                del self._intervals[subscription.symbol]
                self.places.leave(self.venue.name)
            subscription.enter(Phase.ENDED)


@asynccontextmanager
async def open_registry(*, context: VenueContext, places: Places) -> AsyncIterator[Registry]:
    """Open an empty registry; leaving the block ends every subscription."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.deadlines.run)
        yield Registry(context=context, places=places, nursery=nursery, log_context=copy_context())
        nursery.cancel_scope.cancel(reason="the registry is closed")
