"""`GET /v1/overview`: the state of the agent in one answer, made once a second for all clients."""

from __future__ import annotations

import heapq
import math
from operator import itemgetter

import h11
import msgspec
import trio
from attrs import define, field
from msgspec import UNSET
from msgspec.structs import replace
from quart import Response
from quart_trio import QuartTrio

from klineagent import __version__
from klineagent.api.app import asked as head_of_request
from klineagent.api.dashboard.figures import longest_lag_ms
from klineagent.api.dashboard.journal import Journal, after
from klineagent.api.guard import Access, Guard
from klineagent.api.models.overview import (
    Overview,
    OverviewPoint,
    OverviewQuery,
    OverviewTotals,
    StageDelays,
    VenueOverview,
)
from klineagent.api.models.reports import Reason, SeriesCoverage
from klineagent.api.models.timestamps import utc
from klineagent.api.openapi import operation
from klineagent.api.requests import read_query
from klineagent.api.routes.coverage import coverage_of
from klineagent.api.routes.health import CountedVenues, counted_venues, shortcomings
from klineagent.api.routes.jobs import jobs_reported
from klineagent.api.routes.limits import feeds_of, limits_of_venue, storage_of
from klineagent.api.server.shortcuts import ReadyAnswer, passed
from klineagent.api.timings import Timings
from klineagent.core.cooperate import in_portions
from klineagent.core.interval import BY_LENGTH, SECOND_MS, Interval
from klineagent.exchange.venues import full_name
from klineagent.jobs.jobs import Jobs
from klineagent.series.statistics import CountedSeries, lag_of
from klineagent.series.venues import RunningVenue, Venues
from klineagent.storage.writing.writer import Writer

PATH = "/v1/overview"
_PATHS = (PATH.encode(),)
MOST_BEHIND = 50
# Less than the second after which pages ask again: none of them gets the same twice.
STATE_LASTS_S = 0.8
MOST_JOBS = 20
# Of one second: tabs that ask each second ask for the same, but for those that have just begun.
MOST_ANSWERS = 20
_READY = ((b"content-type", b"application/json"),)
# A millisecond or two of work between checkpoints.
SERIES_AT_ONCE, RANKED_AT_ONCE = 25, 200


@define(eq=False, kw_only=True)
class OverviewSource:
    """Makes overviews: the state once a second, and each answer that follows from it once."""

    venues: Venues
    writer: Writer
    jobs: Jobs
    timings: Timings
    guard: Guard
    journal: Journal
    _state: Overview | None = field(default=None, init=False)
    """The last one, without what happened."""
    _made_at: float = field(default=-math.inf, init=False)
    _answers: dict[tuple[int, Access], bytes] = field(factory=dict, init=False)
    """Those made of it so far, by `since` and the access of the client."""
    _turn: trio.Lock = field(factory=trio.Lock, init=False)

    async def answer(self, since: int, access: Access) -> bytes:
        """Return the state, and what happened after `since`."""
        async with self._turn:
            if (ready := self.ready_answer(since, access)) is not None:
                return ready
            self._state = await self._make()
            self._made_at, self._answers = trio.current_time(), {}
        return self._encoded(self._state, since, access)

    def ready_answer(self, since: int, access: Access) -> bytes | None:
        """Return the same if the state need not be made anew."""
        if self._state is None or trio.current_time() - self._made_at >= STATE_LASTS_S:
            return None
        return self._encoded(self._state, since, access)

    def _encoded(self, state: Overview, since: int, access: Access) -> bytes:
        if (known := self._answers.get((since, access))) is not None:
            return known
        journal, last = self.journal, state.next
        answer = replace(
            state,
            access=access,
            points=after(since, last, journal.points),
            events=after(since, last, journal.events),
            losses=after(since, last, journal.losses),
        )
        encoded = msgspec.json.encode(answer)
        if len(self._answers) < MOST_ANSWERS:
            self._answers[since, access] = encoded
        return encoded

    async def _make(self) -> Overview:
        main = self.venues.main
        counted = await counted_venues(self.venues)
        counted = sorted(counted, key=lambda each: each[0] is not main)
        await self.journal.see(counted)
        found = shortcomings(self.venues, self.writer, counted)
        reasons = dict.fromkeys((each.part, each.text, each.venue) for each in found)
        return Overview(
            at=utc(self.venues.main.context.time.now_ms()),
            started=utc(self.journal.started_ms),
            version=__version__,
            access="command",
            has_token=self.guard.token is not None,
            next=self.journal.last,
            ready=not found,
            reasons=[Reason(part, text, venue or UNSET) for part, text, venue in reasons],
            totals=_totals(counted, self.journal.newest_point),
            venues=[
                VenueOverview(
                    venue=running.venue.name,
                    is_default=running is self.venues.main,
                    symbols=len(running.registry.symbols()),
                    series=totals.series,
                    active=totals.active,
                    incomplete=totals.incomplete,
                    missing=totals.missing.total(),
                    lag_seconds={
                        interval.value: totals.lag_ms[interval] / SECOND_MS
                        for interval in Interval
                        if interval in totals.lag_ms
                    },
                    limits=limits_of_venue(running.context),
                )
                for running, totals in counted
            ],
            feeds=feeds_of(self.venues).feeds,
            storage=storage_of(self.writer),
            delays=_delays(self.timings),
            points=[],
            behind=await self._worst_series(counted),
            events=[],
            losses=[],
            jobs=jobs_reported(self.jobs, self.venues.default)[:MOST_JOBS],
        )

    async def _worst_series(self, counted: CountedVenues) -> list[SeriesCoverage]:
        gapped = [(running, each) for running, totals in counted for each in totals.gapped]
        ranked = await in_portions(_ranked, gapped, at_once=RANKED_AT_ONCE)
        named = []
        for _, running, each in heapq.nsmallest(MOST_BEHIND, ranked, key=itemgetter(0)):
            if (series := running.registry.subscription(each.symbol, each.interval)) is not None:
                named.append((full_name(running.venue, each.symbol, self.venues.default), series))
        return await in_portions(coverage_of, named, at_once=SERIES_AT_ONCE)


_Rank = tuple[int, int, str, int]


def _ranked(
    gapped: tuple[RunningVenue, CountedSeries],
) -> tuple[_Rank, RunningVenue, CountedSeries]:
    """Return a series with its rank: the worst is first."""
    running, series = gapped
    ledger, now_ms = series.ledger, running.context.time.now_ms()
    rank = BY_LENGTH[series.interval.value]
    return (-ledger.missing, -lag_of(ledger, now_ms), series.symbol, rank), running, series


def add_overview_route(app: QuartTrio, source: OverviewSource) -> None:
    """Add `GET /v1/overview`."""

    @app.get(PATH)
    @operation(Overview, tag="data", query=OverviewQuery)
    async def overview() -> Response:
        """Report the state of the agent, and what happened since the last answer.

        It is made once a second, for all clients.
        """
        asked = read_query(OverviewQuery)
        body = await source.answer(asked.since, source.guard.access(head_of_request()))
        return Response(body, content_type="application/json")


@define
class OverviewAtOnce:
    """Answers with an overview that was made within this second, past the app."""

    source: OverviewSource

    def __call__(self, asked: h11.Request) -> ReadyAnswer | None:
        """Answer a request, or leave it to the app: so all that is refused is refused there."""
        guard = self.source.guard
        request = passed(asked, guard, _PATHS)
        if request is None or (query := request.query(OverviewQuery)) is None:
            return None
        body = self.source.ready_answer(query.since, guard.access(request.head))
        return None if body is None else ReadyAnswer(body, _READY)


def _totals(counted: CountedVenues, newest: OverviewPoint | None) -> OverviewTotals:
    totals = [each for _, each in counted]
    return OverviewTotals(
        symbols=sum(len(running.registry.symbols()) for running, _ in counted),
        series=sum(each.series for each in totals),
        active=sum(each.active for each in totals),
        incomplete=sum(each.incomplete for each in totals),
        missing=sum(each.missing.total() for each in totals),
        behind_seconds=longest_lag_ms(counted) / SECOND_MS,
        received_per_second=0 if newest is None else newest.received_per_second,
        stored_per_second=0 if newest is None else newest.stored_per_second,
        loop_lag_ms=None if newest is None else newest.loop_lag_ms,
    )


def _delays(timings: Timings) -> list[StageDelays]:
    return [
        StageDelays(
            stage=stage,
            venue=venue,
            interval=interval,
            bounds_seconds=[*histogram.bounds],
            counts=histogram.counts,
            p50_seconds=histogram.quantile(0.5),
            p99_seconds=histogram.quantile(0.99),
        )
        for stage, delays in timings.stages.items()
        for (venue, interval), histogram in delays.items()
    ]
