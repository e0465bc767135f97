"""The desired set of series: the registry follows it, and it survives restarts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NoReturn

import structlog
import trio
from attrs import evolve, frozen

from klineagent.core.errors import NotRunning
from klineagent.core.interval import Interval
from klineagent.core.suggestions import suggest
from klineagent.exchange.venues import Venue
from klineagent.series.desired.demand import Change, Demand
from klineagent.series.desired.reconciler import Reconciler
from klineagent.series.desired.selection import (
    Intervals,
    Listings,
    Match,
    Selection,
    SeriesSet,
    count,
)
from klineagent.series.desired.state_file import StateSaver
from klineagent.series.desired.wire_format import pattern_of
from klineagent.series.registry import Registry

# Symbols between two checkpoints: a millisecond of work.
SYMBOLS_AT_ONCE = 100
NAMED_SYMBOLS = 20
"""The number of symbols that a log line names."""
# The least similarity of a suggested symbol. Most symbols have the same ending, so it is high.
ALIKE = 0.85

log = structlog.get_logger()


@frozen(kw_only=True)
class Progress:
    """The progress of the registry towards the desired set."""

    wanted: SeriesSet
    active: int
    """The number of series that a connection carries."""
    pending: Mapping[str, str]
    """Symbols with a series that is not carried yet, and why."""
    refused: Mapping[str, str]
    """Wanted symbols that cannot run, and why."""
    ending: SeriesSet
    """Series of delisted symbols that are not complete yet."""
    unmatched: tuple[Match, ...]
    """The patterns that match no symbol at the moment."""


class Desired:
    """Holds the desired set of series and makes the registry run it.

    Single series are added and removed at once, as by the registry. A new selection and new
    listings are followed in the background.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        configured: SeriesSet,
        selection: Selection,
        saver: StateSaver,
    ) -> None:
        self.registry = registry
        self._reconciler = Reconciler(registry)
        self._demand = Demand(
            configured=configured,
            # The configuration wins at a start: what it names may have been removed before.
            selection=selection.permitting(configured),
            venue_name=self.venue.name,
            max_symbols=registry.places.most,
            running=self._reconciler.held,
        )
        self._saver = saver
        registry.places.watch(self._places_have_changed)
        self._known = trio.Event()
        self._stale = trio.Event()
        """Set when the registry may differ from what is wanted."""

    @property
    def venue(self) -> Venue:
        """The venue of all series."""
        return self.registry.venue

    @property
    def demand(self) -> Demand:
        """The present demand; `add`, `remove` and `adopt` change it."""
        taken = self.registry.places.taken_by_others(self.venue.name)
        if taken != self._demand.taken_by_others:
            self._demand = evolve(self._demand, taken_by_others=taken)
        return self._demand

    # The running set; see `klineagent.series.venues.Venues`.

    def count(self) -> int:
        """Count the subscriptions."""
        return self.registry.count()

    def intervals(self, symbol: str) -> list[Interval]:
        """Return the intervals at which `symbol` runs or should run."""
        wanted = self.demand.intervals(symbol)
        return [each for each in Interval if each in wanted or self._runs(symbol, each)]

    def obstacle(self) -> str:
        """Return why no subscription can be confirmed at this moment; empty if that is unknown."""
        return self.registry.obstacle()

    async def add(self, symbol: str, interval: Interval) -> bool:
        """Start a series as `Registry.add` does; it is wanted from then on.

        Returns:
            Whether it was started and was not wanted before.
        """
        was_wanted = interval in self.demand.intervals(symbol)
        try:
            is_started = await self.registry.add(symbol, interval)
        finally:
            if interval in self.demand.intervals(symbol) and not self._runs(symbol, interval):
                self._stale.set()  # it is wanted, and its start was given up here
        if was_wanted:
            return False
        if not is_started:
            self._stale.set()  # it ran without being wanted, so it is about to be stopped
        self._reconciler.hold(symbol, interval)
        more = Selection(named={symbol: frozenset({interval})})
        self._replace(self.demand.adding(more))
        await self.saved()
        return is_started

    async def remove(self, symbol: str, interval: Interval) -> None:
        """Stop a series as `Registry.remove` does; it is not wanted any more.

        Raises:
            NotRunning: it does not run, nor should it.
        """
        gone = Selection(named={symbol: frozenset({interval})})
        was_wanted = self._replace(self.demand.removing(gone))
        self._reconciler.let_go(symbol, interval)
        try:
            await self.registry.remove(symbol, interval)
        except NotRunning:
            if not was_wanted:
                raise
        if interval in self.demand.intervals(symbol):
            self._stale.set()  # another request wants it since
        await self.saved()

    # The desired set.

    async def listings(self) -> Listings:
        """Return the symbols once they and the time are known; the caller sets the deadline."""
        await self._known.wait()
        await self.registry.context.time.known()
        return self.demand.listings or {}

    def adopt(self, change: Change) -> None:
        """Adopt the selection of `change`; the registry follows in the background."""
        unmatched_before = self.demand.resolution.unmatched
        if self._replace(change.selection):
            self._stale.set()
            log.info(
                "subscriptions_changed",
                added=count(change.added),
                removed=count(change.removed),
                wanted=count(change.wanted),
            )
            _log_unmatched(unmatched_before, change.unmatched)

    async def saved(self) -> bool:
        """Wait up to a second until the desired set is saved; return whether it is."""
        return await self._saver.saved()

    @property
    def is_empty(self) -> bool:
        """Whether no symbol and no pattern is wanted."""
        selection = self._demand.selection
        return not (self._demand.configured or selection.named or selection.matched)

    @property
    def refused(self) -> Mapping[str, str]:
        """Wanted symbols that cannot run, and why."""
        return {**self.demand.resolution.refused, **self._reconciler.placeless}

    async def progress(self) -> Progress:
        """Return how much of the desired set runs; it has checkpoints between symbols."""
        resolution, active, pending = self.demand.resolution, 0, {}
        for number, (symbol, intervals) in enumerate(resolution.wanted.items(), start=1):
            carried = sum(self._is_active(symbol, interval) for interval in intervals)
            active += carried
            if carried < len(intervals):
                pending[symbol] = self._obstacle_of(symbol)
            if number % SYMBOLS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        refused = self.refused
        return Progress(
            wanted=resolution.wanted,
            active=active,
            pending={symbol: why for symbol, why in pending.items() if symbol not in refused},
            refused=refused,
            ending=self._reconciler.ending,
            unmatched=resolution.unmatched,
        )

    # Reconciliation.

    async def follow(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Keep the registry reconciled; started once named symbols have their places."""
        await self._reconcile()
        self.registry.places.end_reservation(self.venue.name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_reconciled)
            nursery.start_soon(self._watch_listings)
            task_status.started()
        raise AssertionError("its tasks never end")

    async def _reconcile(self) -> None:
        self._stale = trio.Event()
        await self._reconciler.reconcile(
            self.demand.resolution.wanted,
            self.demand.selection,
            self.demand.listings or {},
            stale=self._stale,
            still_wanted=self._wanted,
        )

    async def _keep_reconciled(self) -> NoReturn:
        while True:
            await self._stale.wait()
            await self._reconcile()

    async def _watch_listings(self) -> NoReturn:
        book = self.registry.context.book
        await book.loaded()
        while True:
            before = self.demand
            self._demand = evolve(before, listings=book.listings or {})
            self._known.set()
            self._stale.set()
            _log_changes(before, self._demand)
            await book.refreshed()

    def _replace(self, selection: Selection) -> bool:
        """Replace the selection; return False if it is the same."""
        if selection == self.demand.selection:
            return False
        self._demand = evolve(self._demand, selection=selection)
        self._saver.save(self.venue.name, selection)
        return True

    def _places_have_changed(self) -> None:
        # Not the present demand: resolving it anew for each of hundreds of symbols takes seconds.
        if self._demand.resolution.refused or self._reconciler.placeless:
            self._stale.set()

    def _wanted(self, symbol: str) -> Intervals:
        """Return the intervals wanted at the time of the call."""
        return self.demand.intervals(symbol)

    def _runs(self, symbol: str, interval: Interval) -> bool:
        return self.registry.subscription(symbol, interval) is not None

    def _is_active(self, symbol: str, interval: Interval) -> bool:
        subscription = self.registry.subscription(symbol, interval)
        return subscription is not None and subscription.is_active

    def _obstacle_of(self, symbol: str) -> str:
        info = (self.demand.listings or {}).get(symbol)
        if info is not None and not info.is_trading:
            return f"{symbol} does not trade on {self.venue.name} ({info.status})"
        return self.obstacle() or "the exchange has not confirmed it yet"


def _log_changes(demand_before: Demand, demand: Demand) -> None:
    """Log what new listings changed; the first ones have nothing to compare with."""
    before, after, listings = demand_before.resolution, demand.resolution, demand.listings or {}
    if demand_before.listings is None:
        log.info("subscriptions_resolved", symbols=len(after.wanted), streams=count(after.wanted))
    else:
        # A symbol that was listed and had no place is no new listing.
        placeless = before.refused.keys() & demand_before.listings.keys()
        if came := sorted(after.wanted.keys() - before.wanted.keys() - placeless):
            log.info("symbols_listed", count=len(came), symbols=came[:NAMED_SYMBOLS])
        if went := sorted(before.wanted.keys() - after.wanted.keys() - after.refused.keys()):
            log.info("symbols_delisted", count=len(went), symbols=went[:NAMED_SYMBOLS])
    if refused := sorted(after.refused.keys() - before.refused.keys()):
        reasons = [
            after.refused[symbol] + ("" if symbol in listings else _hint(symbol, listings))
            for symbol in refused[:NAMED_SYMBOLS]
        ]
        log.warning("symbols_refused", count=len(refused), reasons=reasons)
    _log_unmatched(before.unmatched, after.unmatched)


def _hint(symbol: str, listings: Listings) -> str:
    hint = suggest(symbol, listings, likeness=ALIKE)
    return f"; {hint}" if hint else ""


def _log_unmatched(before: Collection[Match], after: Iterable[Match]) -> None:
    if new := [match for match in after if match not in before]:
        patterns = [str(pattern_of(match)) for match in new[:NAMED_SYMBOLS]]
        log.warning("patterns_match_nothing", count=len(new), patterns=patterns)
