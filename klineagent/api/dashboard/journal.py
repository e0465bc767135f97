"""What happened to an agent, in the order of one counter: log lines, losses, figures over time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import NoReturn, TypeVar

import trio
from attrs import define, field
from msgspec.structs import replace

from klineagent.api.dashboard.figures import Figures, point_between
from klineagent.api.dashboard.lost import lost_spans
from klineagent.api.models.overview import LoggedEvent, LostSpan, OverviewPoint
from klineagent.api.models.timestamps import utc
from klineagent.api.routes.health import CountedVenues, counted_venues
from klineagent.api.timings import Timings
from klineagent.core.cooperate import in_portions
from klineagent.core.interval import SECOND_MS
from klineagent.exchange.venues import Venue, full_name
from klineagent.process.recent_lines import MOST_LINES, RecentLines
from klineagent.series.losses import LossRecord
from klineagent.series.statistics import CountedSeries
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer

POINT_EVERY_S, POINTS_KEPT_S = 5, 1800
# Without a request for as long as points are kept: each point reads the state of all series.
UNSEEN_POINT_EVERY_S = 60
MOST_LOSSES = 200
# A millisecond or two of work between checkpoints.
SERIES_AT_ONCE = 25

_Numbered = TypeVar("_Numbered", LoggedEvent, LostSpan, OverviewPoint)


@define(eq=False)
class _ReportedLosses:
    """The losses of a series as they were reported last."""

    record: LossRecord
    changes: int
    spans: frozenset[LostSpan]
    """With 0 as their numbers."""


@define(eq=False, kw_only=True)
class Journal:
    """Keeps the newest of each kind; a client asks for what came after a number."""

    venues: Venues
    writer: Writer
    timings: Timings
    lines: RecentLines
    points: deque[OverviewPoint] = field(factory=deque, init=False)
    events: deque[LoggedEvent] = field(factory=lambda: deque(maxlen=MOST_LINES), init=False)
    losses: deque[LostSpan] = field(factory=lambda: deque(maxlen=MOST_LOSSES), init=False)
    started_ms: int = field(init=False)
    """When it began, by the computer's clock."""
    last: int = field(init=False)
    """The number that was given last."""
    _numbers: count[int] = field(init=False)
    _kept_at: deque[float] = field(factory=deque, init=False)
    """When each point was kept, by Trio's clock."""
    _asked_at: float = field(default=-math.inf, init=False)
    _asked: trio.Event = field(factory=trio.Event, init=False)
    """Set while clients ask for overviews."""
    _seen: dict[CountedSeries, _ReportedLosses] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        # A page that knew an earlier run asks for what came after a number of that run's: ours are
        # higher, unless there was more than one a millisecond.
        self.started_ms = self.last = time.time_ns() // 1_000_000
        self._numbers = count(self.last + 1)

    @property
    def newest_point(self) -> OverviewPoint | None:
        """The newest figures over time; None before the first."""
        return self.points[-1] if self.points else None

    async def run(self) -> NoReturn:
        """Keep figures every five seconds; every minute after half an hour without a request."""
        before = await self._figures()
        while True:
            with trio.move_on_after(UNSEEN_POINT_EVERY_S):
                await self._asked.wait()
                await trio.sleep(POINT_EVERY_S)
            now = await self._figures()
            if not self.venues.main.context.time.is_known:
                continue  # it would count from 1970
            self.points.append(point_between(before, now, number=self._next()))
            self._kept_at.append(now.at_s)
            while now.at_s - self._kept_at[0] > POINTS_KEPT_S:
                self._kept_at.popleft()
                self.points.popleft()
            if now.at_s - self._asked_at > POINTS_KEPT_S:
                self._asked = trio.Event()
            before = now

    async def see(self, counted: CountedVenues) -> None:
        """Take what was logged and lost since the last call, for a client that asks."""
        self._asked_at = trio.current_time()
        self._asked.set()
        for line in self.lines.take():
            at = utc(int(line.at_s * SECOND_MS))
            event = LoggedEvent(self._next(), at, line.level, line.event, line.text)
            self.events.append(event)
        lossy = {series: running.venue for running, totals in counted for series in totals.lossy}
        for series in self._seen.keys() - lossy.keys():  # it does not run any more
            del self._seen[series]
        changed = [each for each in lossy.items() if self._has_changed(each[0])]
        await in_portions(lambda each: self._see_losses(*each), changed, at_once=SERIES_AT_ONCE)

    def _has_changed(self, series: CountedSeries) -> bool:
        record, seen = series.ledger.losses, self._seen.get(series)
        return seen is None or seen.record is not record or seen.changes != record.changes

    def _see_losses(self, series: CountedSeries, venue: Venue) -> None:
        record, seen = series.ledger.losses, self._seen.get(series)
        name = full_name(venue, series.symbol, self.venues.default)
        spans = lost_spans(series.ledger, venue=venue.name, symbol=name)
        known = frozenset[LostSpan]() if seen is None else seen.spans
        fresh = [replace(each, number=self._next()) for each in spans if each not in known]
        if not known.issubset(spans):
            kept = (each for each in self.losses if not any(_replaces(new, each) for new in fresh))
            self.losses = deque(kept, maxlen=MOST_LOSSES)
        self.losses.extend(fresh)
        self._seen[series] = _ReportedLosses(record, record.changes, frozenset(spans))

    def _next(self) -> int:
        self.last = next(self._numbers)
        return self.last

    async def _figures(self) -> Figures:
        counted = await counted_venues(self.venues)
        return Figures.of(counted, self.writer, self.timings)


def after(since: int, last: int, kept: Sequence[_Numbered]) -> list[_Numbered]:
    """Return what is kept from after `since` up to `last`; all of it if `since` is later. Pure."""
    return [each for each in kept if each.number <= last and not each.number <= since <= last]


def _replaces(new: LostSpan, old: LostSpan) -> bool:
    same = (new.venue, new.symbol, new.interval) == (old.venue, old.symbol, old.interval)
    return same and new.from_ <= old.to and old.from_ <= new.to
