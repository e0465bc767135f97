"""The venues that an agent records: the default one, and others once something wants them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import Context, copy_context

import structlog
import trio
from attrs import define, field, frozen

from klineagent.core.errors import InvalidRequest, NotRunning, ShuttingDown
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from klineagent.exchange.stream.dispatcher import FormingTurns
from klineagent.exchange.venues import Venue, full_name, split_name
from klineagent.series.backfill.audit import StoreAudit
from klineagent.series.context import VenueContext
from klineagent.series.desired.desired import Desired
from klineagent.series.desired.selection import SeriesSet
from klineagent.series.desired.state_file import StateSaver
from klineagent.series.registry import Places, Registry, SubscriptionInfo
from klineagent.series.statistics import Statistics
from klineagent.series.subscription import Subscription
from klineagent.storage.writing.writer import Writer

OpenedRegistry = AbstractAsyncContextManager[Registry]
OpenRegistry = Callable[[Venue, FormingTurns], OpenedRegistry]
"""A function that opens one venue; the turns are those of all of them."""


@frozen(kw_only=True)
class RunningVenue:
    """One venue that is recorded."""

    registry: Registry
    desired: Desired
    statistics: Statistics

    @property
    def venue(self) -> Venue:
        """The venue."""
        return self.registry.venue

    @property
    def context(self) -> VenueContext:
        """The parts that its subscriptions share."""
        return self.registry.context

    @property
    def is_wanted(self) -> bool:
        """Whether anything of it runs, or should; a command may have opened it in vain."""
        return self.desired.count() > 0 or not self.desired.is_empty


@define(eq=False, kw_only=True)
class Venues:
    """Opens venues and finds the one that a row or a name belongs to."""

    default: Venue
    """The venue of symbols that do not name theirs."""
    places: Places
    apart: frozenset[Venue] = frozenset()
    """The venues that no command opens: simulated ones beside a real default venue, or real ones
    beside a simulated one: their candles would be in one table."""
    _open: Callable[[Venue], AbstractAsyncContextManager[RunningVenue]]
    _nursery: trio.Nursery
    _context: Context = field(factory=copy_context, init=False)
    """The context of the agent: what opens a venue may be a request."""
    _running: dict[str, RunningVenue] = field(factory=dict, init=False)
    _opening: dict[str, trio.Event] = field(factory=dict, init=False)
    """Set once the venue runs, or cannot any more; by its name."""
    _holds: dict[str, trio.CancelScope] = field(factory=dict, init=False)
    _kept: set[str] = field(factory=set, init=False)
    """The venues that run to the end."""
    _visits: Counter[str] = field(factory=Counter, init=False)

    def __iter__(self) -> Iterator[RunningVenue]:
        """Iterate over the venues that run, in the order in which they were opened."""
        return iter([*self._running.values()])

    def __len__(self) -> int:
        """The number of venues that run."""
        return len(self._running)

    def running(self, venue: Venue) -> RunningVenue:
        """Return `venue`, which runs."""
        return self._running[venue.name]

    def get(self, name: str) -> RunningVenue | None:
        """Return the venue called `name`, if it runs."""
        return self._running.get(name)

    @property
    def main(self) -> RunningVenue:
        """The default venue, which always runs."""
        return self.running(self.default)

    def registries(self) -> list[Registry]:
        """Return the registries of all venues."""
        return [each.registry for each in self]

    async def open(self, venue: Venue) -> RunningVenue:
        """Return the running `venue`; it is opened if it does not run, and runs to the end.

        A caller that is cancelled meanwhile does not end it: others may wait for it.

        Raises:
            InvalidRequest: it is one of those that are apart.
            ShuttingDown: the agent is stopping.
        """
        self._kept.add(venue.name)  # at once: a visit may end while this waits
        return await self._running_one(venue)

    @asynccontextmanager
    async def visiting(self, venue: Venue) -> AsyncIterator[RunningVenue]:
        """Have `venue` run as `open` does; afterwards it ends, unless it is wanted or was opened.

        Raises:
            InvalidRequest: it is one of those that are apart.
            ShuttingDown: the agent is stopping.
        """
        self._visits[venue.name] += 1
        try:
            yield await self._running_one(venue)
        finally:
            self._visits[venue.name] -= 1
            self._end_unwanted(venue.name)

    async def _running_one(self, venue: Venue) -> RunningVenue:
        if (running := self.get(venue.name)) is not None:
            return running
        if venue in self.apart:
            raise InvalidRequest(
                f"{venue.name}: of its exchange and that of {self.default.name} one is simulated"
                " and the other is not; start the agent with both addresses:"
                f" --rest-url {venue.name}=URL --ws-url {venue.name}=URL"
            )
        if self._nursery.cancel_scope.cancel_called:
            raise ShuttingDown("the agent is shutting down")
        if (opening := self._opening.get(venue.name)) is None:
            opening = self._opening[venue.name] = trio.Event()
            self._context.run(self._nursery.start_soon, self._hold, venue, opening)
        await opening.wait()
        if (running := self.get(venue.name)) is None:
            raise ShuttingDown("the agent is shutting down")
        return running

    async def _hold(self, venue: Venue, opening: trio.Event) -> None:
        if venue != self.default:
            # Streams and symbols of two venues have equal names.
            structlog.contextvars.bind_contextvars(venue=venue.name)
        try:
            async with self._open(venue) as running:
                self._running[venue.name] = running
                opening.set()
                with trio.CancelScope() as self._holds[venue.name]:
                    self._end_unwanted(venue.name)  # its client may be gone already
                    await trio.sleep_forever()
        finally:
            opening.set()

    def _end_unwanted(self, name: str) -> None:
        """End a venue that was opened to look at it only; one that is asked for again is new."""
        running = self.get(name)
        if running is None or running.is_wanted or self._visits[name] or name in self._kept:
            return
        del self._running[name], self._opening[name]
        self._holds.pop(name).cancel(reason="nothing of the venue is wanted")

    # Routing of rows: to the venue that recorded them.

    def refetch(self, klines: Iterable[Kline]) -> None:
        """Fetch closed candles again whose rows were lost before they were stored."""
        for registry, rows in self._by_registry(klines):
            registry.refetch(rows)

    def set_aside(self, klines: Iterable[Kline]) -> None:
        """Give up closed candles whose rows the store refuses for good."""
        for registry, rows in self._by_registry(klines):
            registry.set_aside(rows)

    def watched(self, kline: Kline) -> bool:
        """Whether the series of `kline` ran when that candle closed."""
        running = self.get(kline.venue)
        return running is not None and running.registry.watched(kline)

    def now_ms(self, venue: str) -> int | None:
        """Return the exchange's time on the venue called `venue`; None if it does not run."""
        running = self.get(venue)
        return None if running is None else running.context.time.now_ms()

    def _by_registry(self, klines: Iterable[Kline]) -> Iterator[tuple[Registry, list[Kline]]]:
        rows: dict[str, list[Kline]] = {}
        for kline in klines:
            rows.setdefault(kline.venue, []).append(kline)
        for name, some in rows.items():
            # The spool may hold rows of a venue that does not run any more.
            if (running := self.get(name)) is not None:
                yield running.registry, some

    # The subscriptions of all venues; see `klineagent.api.subscriptions.Subscriptions`.

    def count(self) -> int:
        """Count the subscriptions of all venues."""
        return sum(each.count() for each in self.registries())

    def symbols(self, only: Venue | None = None) -> list[str]:
        """Return the symbols of all venues, or of one; each with its venue if not the default's.

        They are sorted.
        """
        return sorted(
            full_name(each.venue, symbol, self.default)
            for each in self.registries()
            if only in {None, each.venue}
            for symbol in each.symbols()
        )

    def subscriptions(self) -> Iterator[tuple[str, Subscription]]:
        """Iterate over all subscriptions with their symbols' names as in `symbols`."""
        for registry in self.registries():
            for each in registry.subscriptions():
                yield full_name(registry.venue, each.symbol, self.default), each

    def listing(self) -> Iterator[SubscriptionInfo]:
        """Describe all subscriptions, those of a venue as of the moment when its first is asked."""
        for name, each in self.subscriptions():
            yield SubscriptionInfo(name, each.interval, each.created_at, each.is_active)

    def subscription(self, name: str, interval: Interval) -> Subscription | None:
        """Return the subscription to a series, if it runs or is starting."""
        running, symbol = self._named(name)
        return None if running is None else running.registry.subscription(symbol, interval)

    def intervals(self, name: str) -> list[Interval]:
        """Return the intervals at which the symbol runs, or should."""
        running, symbol = self._named(name)
        return [] if running is None else running.desired.intervals(symbol)

    def obstacle(self, name: str) -> str:
        """Return why the symbol cannot be confirmed at this moment; empty if that is unknown."""
        running, _ = self._named(name)
        return "" if running is None else running.desired.obstacle()

    async def add(self, name: str, interval: Interval) -> bool:
        """Start a series as `Desired.add` does; its venue is opened if it does not run."""
        venue, symbol = split_name(name, self.default)
        running = await self.open(venue)
        return await running.desired.add(symbol, interval)

    async def remove(self, name: str, interval: Interval) -> None:
        """Stop a series as `Desired.remove` does.

        Raises:
            NotRunning: it does not run, nor should it.
        """
        running, symbol = self._named(name)
        if running is not None:
            with suppress(NotRunning):
                return await running.desired.remove(symbol, interval)
        raise NotRunning(f"{name} {interval} does not run")

    def _named(self, name: str) -> tuple[RunningVenue | None, str]:
        venue, symbol = split_name(name, self.default)
        return self.get(venue.name), symbol


@asynccontextmanager
async def open_venues(
    default: Venue,
    *,
    open_registry: OpenRegistry,
    places: Places,
    configured: Mapping[Venue, SeriesSet],
    saver: StateSaver,
    writer: Writer,
    apart: frozenset[Venue] = frozenset(),
) -> AsyncIterator[Venues]:
    """Open a set of venues, none of which runs yet; leaving the block ends those that do.

    `open_registry` opens one venue (see `open_venue`); `configured` series are wanted on it,
    whatever `saver` has kept. For `apart` see `Venues`.
    """
    turns = FormingTurns()

    def open_one(venue: Venue) -> AbstractAsyncContextManager[RunningVenue]:
        opened = open_registry(venue, turns)
        return _open_running(opened, configured.get(venue, {}), saver, writer)

    async with trio.open_nursery() as nursery:
        venues = Venues(default=default, places=places, apart=apart, open=open_one, nursery=nursery)
        turns.streams = venues.count
        yield venues
        nursery.cancel_scope.cancel(reason="nothing is recorded any more")


@asynccontextmanager
async def _open_running(
    opened: OpenedRegistry,
    configured: SeriesSet,
    saver: StateSaver,
    writer: Writer,
) -> AsyncIterator[RunningVenue]:
    """Open one venue with its desired set and its audit."""
    async with opened as registry, trio.open_nursery() as background:
        desired = Desired(
            registry=registry,
            configured=configured,
            selection=saver.selection_of(registry.venue.name),
            saver=saver,
        )
        background.start_soon(StoreAudit(registry=registry, writer=writer).run)
        # Before commands can be given: what is configured has the first claim to a place.
        await background.start(desired.follow)
        statistics = Statistics(subscriptions=registry.subscriptions, time=registry.context.time)
        yield RunningVenue(registry=registry, desired=desired, statistics=statistics)
        background.cancel_scope.cancel(reason="the venue is closed")
