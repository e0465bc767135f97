"""The set of series that should run: it survives restarts, and the registry follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import structlog
import trio
from attrs import define, field, frozen

from klineagent.backoff import Backoff
from klineagent.errors import NotRunning, StateError, SymbolLimitReached
from klineagent.kline import Interval
from klineagent.market.venues import Venue
from klineagent.series.desired_file import StateFile
from klineagent.series.forecast import Forecast, foresee
from klineagent.series.reconciler import Reconciler
from klineagent.series.registry import Registry, SubscriptionInfo
from klineagent.series.selection import (
    NONE,
    Intervals,
    Listings,
    Resolution,
    Selection,
    Series,
    count,
    in_order,
    less,
    limited,
    resolve,
)
from klineagent.trouble import Trouble

# How long somebody waits for the disk before he is told that nothing is sure.
SAVED_WITHIN_S = 1.0
TOLD_SYMBOLS = 20
"""How many a log line names."""

log = structlog.get_logger()


@frozen(kw_only=True)
class Change:
    """What another selection would change."""

    selection: Selection
    wanted: Series
    """All that is wanted then."""
    added: Series
    removed: Series
    forecast: Forecast


@frozen(kw_only=True)
class Standing:
    """How far what is wanted has come."""

    wanted: Series
    active: int
    """Series that a connection carries."""
    pending: Mapping[str, str]
    """Symbols of which at least one is not carried yet, and why."""
    refused: Mapping[str, str]
    """Symbols that are wanted and cannot be had, and why."""
    ending: Series
    """What was delisted and is not complete yet."""


@define(eq=False, kw_only=True)
class Desired:
    """What is wanted: the `configured` series, and a selection that can be changed.

    Who adds or removes a single series here has it done at once, as the registry does; a whole new
    selection is followed in the background, and so are listings.
    """

    registry: Registry
    configured: Series
    file: StateFile | None = None
    selection: Selection = field(factory=Selection)
    _listings: Listings | None = field(default=None, init=False)
    """As of the last look."""
    _resolution: Resolution | None = field(default=None, init=False)
    """Of the selection and these; None where one has changed."""
    _reconciler: Reconciler = field(init=False)
    _known: trio.Event = field(factory=trio.Event, init=False)
    _stale: trio.Event = field(factory=trio.Event, init=False)
    """Set when the registry may not run what is wanted."""
    _version: int = field(default=0, init=False)
    _saved_version: int = field(default=0, init=False)
    _unsaved: trio.Event = field(factory=trio.Event, init=False)
    _tried: trio.Event = field(factory=trio.Event, init=False)
    """Set when the file was written, or could not be; replaced for the next time."""

    def __attrs_post_init__(self) -> None:
        self._reconciler = Reconciler(self.registry)
        # The configuration has the last word at a start: what it names was removed before.
        self.selection = self.selection.permitting(self.configured)

    @property
    def venue(self) -> Venue:
        """Where all of it is."""
        return self.registry.means.rest.venue

    # What runs; see `klineagent.control.subscriptions.Subscriptions`.

    def count(self) -> int:
        """How many subscriptions there are."""
        return self.registry.count()

    def symbols(self) -> list[str]:
        """Their symbols, sorted."""
        return self.registry.symbols()

    def listing(self) -> list[SubscriptionInfo]:
        """What there is to tell of each."""
        return self.registry.listing()

    def intervals(self, symbol: str) -> list[Interval]:
        """Those at which `symbol` runs, or should."""
        wanted = self._wanted(symbol)
        return [each for each in Interval if each in wanted or self._runs(symbol, each)]

    def obstacle(self) -> str:
        """Why nothing can be confirmed at this moment, as far as it is known."""
        return self.registry.obstacle()

    async def add(self, symbol: str, interval: Interval) -> bool:
        """Start a series, see `Registry.add`; it is wanted from then on.

        Returns:
            Whether it was started and was not wanted before.
        """
        was_wanted = interval in self._wanted(symbol)
        try:
            is_started = await self.registry.add(symbol, interval)
        finally:
            if interval in self._wanted(symbol) and not self._runs(symbol, interval):
                self._stale.set()  # what was given up here has to be started again
        if was_wanted:
            return False
        if not is_started:
            self._stale.set()  # it ran and was not wanted: it is about to be let go
        self._reconciler.hold(symbol, interval)
        more = Selection(named={symbol: frozenset({interval})})
        self._replace(self.selection.adding(more, self._listings))
        await self.saved()
        return is_started

    async def remove(self, symbol: str, interval: Interval) -> None:
        """Stop a series, see `Registry.remove`; it is not wanted any more.

        Raises:
            NotRunning: it does not run, nor should it.
        """
        gone = Selection(named={symbol: frozenset({interval})})
        was_wanted = self._replace(
            self.selection.removing(gone, self._listings, always=self.configured)
        )
        self._reconciler.let_go(symbol, interval)
        try:
            await self.registry.remove(symbol, interval)
        except NotRunning:
            if not was_wanted:
                raise
        if interval in self._wanted(symbol):
            self._stale.set()  # by somebody else, while this one waited
        await self.saved()

    # What is wanted.

    async def listings(self) -> Listings:
        """The venue's symbols, once they and its time are known; the caller sets the deadline."""
        await self._known.wait()
        await self.registry.means.time.known()
        return self._listings or {}

    def resolution(self) -> Resolution:
        """What the selection, and what is configured, come to."""
        if self._resolution is None:
            self._resolution = self._limited(self._resolve(self.selection), self.selection)
        return self._resolution

    def change(self, selection: Selection) -> Change:
        """What `selection` would change in place of the present one.

        Raises:
            SymbolLimitReached: it comes to more symbols than are allowed, and than now.
        """
        whole, most = self._resolve(selection), self.registry.max_symbols
        if len(whole.wanted) > max(most, len(self._resolve(self.selection).wanted)):
            raise SymbolLimitReached(
                f"the set comes to {len(whole.wanted)} symbols, more than the {most} allowed"
                " (max_symbols)"
            )
        wanted, before = self._limited(whole, selection).wanted, self.resolution().wanted
        added, removed = less(wanted, before), less(before, wanted)
        return Change(
            selection=selection,
            wanted=wanted,
            added=added,
            removed=removed,
            forecast=foresee(self.registry.means, wanted, added, removed),
        )

    def adopt(self, change: Change) -> None:
        """Want what `change` says; the registry follows in the background."""
        if self._replace(change.selection):
            self._stale.set()
            log.info(
                "subscriptions_changed",
                added=count(change.added),
                removed=count(change.removed),
                wanted=count(change.wanted),
            )

    async def saved(self) -> bool:
        """Wait a little until what is wanted now survives a restart; tell whether it does."""
        version = self._version
        # Shielded: what it waits for is done, and who is told of it may rely on that.
        with trio.move_on_after(SAVED_WITHIN_S, shield=True):
            while self.file is not None and self._saved_version < version:
                await self._tried.wait()
        return self.file is not None and self._saved_version >= version

    def standing(self) -> Standing:
        """How far all of it has come."""
        resolution, active, pending = self.resolution(), 0, {}
        for symbol, interval in in_order(resolution.wanted):
            subscription = self.registry.subscription(symbol, interval)
            if subscription is not None and subscription.is_active:
                active += 1
            elif symbol not in pending:
                pending[symbol] = self._obstacle_of(symbol)
        placeless = self._reconciler.placeless
        return Standing(
            wanted=resolution.wanted,
            active=active,
            pending={symbol: why for symbol, why in pending.items() if symbol not in placeless},
            refused={**resolution.refused, **placeless},
            ending=self._reconciler.ending,
        )

    # Following.

    async def follow(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Keep the registry to what is wanted; has started once what is named has its place."""
        await self._make_true()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_true)
            nursery.start_soon(self._watch_listings)
            if self.file is not None:
                nursery.start_soon(self._keep_saved, self.file)
            task_status.started()
        raise AssertionError("its tasks never end")

    async def _make_true(self) -> None:
        self._stale = trio.Event()
        await self._reconciler.make_true(
            self.resolution().wanted,
            self.selection,
            self._listings or {},
            stale=self._stale,
            still_wanted=self._wanted,
        )

    async def _keep_true(self) -> NoReturn:
        while True:
            await self._stale.wait()
            await self._make_true()

    async def _watch_listings(self) -> NoReturn:
        book = self.registry.means.book
        await book.loaded()
        while True:
            before, is_first = self.resolution(), self._listings is None
            self._listings, self._resolution = book.listings, None
            self._known.set()
            self._stale.set()
            _tell(before, self.resolution(), is_first=is_first)
            await book.refreshed()

    async def _keep_saved(self, file: StateFile) -> NoReturn:
        trouble = Trouble("subscriptions_not_saved", "subscriptions_saved")
        backoff = Backoff(first_s=1)
        while True:
            await self._unsaved.wait()
            self._unsaved = trio.Event()
            version, wait_s = self._version, 0.0
            try:
                await file.save(self.selection)
            except StateError as error:
                trouble.lasts(error, alarm=True)
                self._unsaved.set()
                wait_s = backoff.after()
            else:
                trouble.over()
                backoff = Backoff(first_s=1)
                self._saved_version = version
            self._tried.set()
            self._tried = trio.Event()
            await trio.sleep(wait_s)

    # Deciding.

    def _replace(self, selection: Selection) -> bool:
        """Want `selection`; tell whether that is another one."""
        if selection == self.selection:
            return False
        self.selection, self._resolution = selection, None
        self._version += 1
        self._unsaved.set()
        return True

    def _runs(self, symbol: str, interval: Interval) -> bool:
        return self.registry.subscription(symbol, interval) is not None

    def _wanted(self, symbol: str) -> Intervals:
        """The intervals of `symbol` that are wanted, cheaper than by a resolution."""
        info = (self._listings or {}).get(symbol)
        listed = info if info is not None and info.is_listed else None
        excepted = self.selection.excluded.get(symbol, NONE)
        configured = self.configured.get(symbol, NONE) - excepted
        return self.selection.fitting(symbol, listed) | configured

    def _resolve(self, selection: Selection) -> Resolution:
        whole = selection.naming(self.configured)
        return resolve(whole, self._listings, venue_name=self.venue.name)

    def _limited(self, resolution: Resolution, selection: Selection) -> Resolution:
        return limited(
            resolution,
            self._listings,
            most=self.registry.max_symbols,
            claims=(self.configured, self._reconciler.held, selection.named),
        )

    def _obstacle_of(self, symbol: str) -> str:
        info = (self._listings or {}).get(symbol)
        if info is not None and not info.is_trading:
            return f"{symbol} does not trade on {self.venue.name} ({info.status})"
        return self.obstacle() or "the exchange has not confirmed it yet"


def _tell(before: Resolution, after: Resolution, *, is_first: bool) -> None:
    """Log what new listings have changed; at first there is nothing to compare with."""
    if is_first:
        log.info("subscriptions_resolved", symbols=len(after.wanted), streams=count(after.wanted))
    else:
        if came := sorted(after.wanted.keys() - before.wanted.keys() - before.refused.keys()):
            log.info("symbols_listed", count=len(came), symbols=came[:TOLD_SYMBOLS])
        if went := sorted(before.wanted.keys() - after.wanted.keys() - after.refused.keys()):
            log.info("symbols_delisted", count=len(went), symbols=went[:TOLD_SYMBOLS])
    if refused := sorted(after.refused.keys() - before.refused.keys()):
        reasons = [after.refused[symbol] for symbol in refused[:TOLD_SYMBOLS]]
        log.warning("symbols_refused", count=len(refused), reasons=reasons)
