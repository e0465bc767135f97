"""`GET /v1/overview`: the state of the agent in one answer, made once a second for all who ask."""

from __future__ import annotations

from itertools import chain

from attrs import define
from msgspec import UNSET
from quart_trio import QuartTrio

from klineagent import __version__
from klineagent.api.guard import Guard
from klineagent.api.models.overview import (
    Overview,
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
from klineagent.api.routes.limits import feeds_of, limits_of, storage_of
from klineagent.api.timings import Timings
from klineagent.core.cooperate import in_portions
from klineagent.core.interval import SECOND_MS, Interval
from klineagent.exchange.venues import full_name
from klineagent.series.statistics import lag_of
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer

MOST_BEHIND = 50
# A millisecond or two of work between checkpoints.
SERIES_AT_ONCE = 25


@define(eq=False, kw_only=True)
class OverviewSource:
    """Makes overviews."""

    venues: Venues
    writer: Writer
    timings: Timings
    guard: Guard

    async def overview(self, since: int) -> Overview:
        """Return the state, and what happened after `since`."""
        counted = await counted_venues(self.venues)
        found = shortcomings(self.venues, self.writer, counted)
        limits = limits_of(self.venues)
        limits_by_venue = {each.venue: each for each in (limits, *limits.others)}
        reasons = dict.fromkeys((each.part, each.text, each.venue) for each in found)
        return Overview(
            at=utc(self.venues.main.context.time.now_ms()),
            version=__version__,
            access="command",
            has_token=self.guard.token is not None,
            next=since,
            ready=not found,
            reasons=[Reason(part, text, venue or UNSET) for part, text, venue in reasons],
            totals=_totals(counted),
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
                    limits=limits_by_venue[running.venue.name],
                )
                for running, totals in counted
            ],
            feeds=feeds_of(self.venues).feeds,
            storage=storage_of(self.writer),
            delays=_delays(self.timings),
            points=[],
            behind=await self._behind(counted),
            events=[],
            losses=[],
        )

    async def _behind(self, counted: CountedVenues) -> list[SeriesCoverage]:
        behind = []
        for running, totals in counted:
            now_ms = running.context.time.now_ms()
            for series in totals.gapped:
                rank = -series.ledger.missing, -lag_of(series.ledger, now_ms)
                name = full_name(running.venue, series.symbol, self.venues.default)
                behind.append((rank, name, series.interval, running))
        worst = sorted(behind, key=lambda each: each[:2])[:MOST_BEHIND]
        there = (
            (name, running.registry.subscription(name.rpartition(":")[2], interval))
            for _, name, interval, running in worst
        )
        named = [(name, series) for name, series in there if series is not None]
        return await in_portions(coverage_of, named, at_once=SERIES_AT_ONCE)


def add_overview_route(app: QuartTrio, source: OverviewSource) -> None:
    """Add `GET /v1/overview`."""

    @app.get("/v1/overview")
    @operation(Overview, tag="data", query=OverviewQuery)
    async def overview() -> Overview:
        """Report the state of the agent, and what happened since the last answer."""
        return await source.overview(read_query(OverviewQuery).since)


def _totals(counted: CountedVenues) -> OverviewTotals:
    totals = [each for _, each in counted]
    return OverviewTotals(
        symbols=sum(len(running.registry.symbols()) for running, _ in counted),
        series=sum(each.series for each in totals),
        active=sum(each.active for each in totals),
        incomplete=sum(each.incomplete for each in totals),
        missing=sum(each.missing.total() for each in totals),
        behind_seconds=max(chain([0], *(each.lag_ms.values() for each in totals))) / SECOND_MS,
        received_per_second=0,
        stored_per_second=0,
        loop_lag_ms=None,
    )


def _delays(timings: Timings) -> list[StageDelays]:
    return [
        StageDelays(
            stage="stored",
            venue=venue,
            interval=interval,
            bounds_seconds=[*histogram.bounds],
            counts=histogram.counts,
            p50_seconds=histogram.quantile(0.5),
            p99_seconds=histogram.quantile(0.99),
        )
        for (venue, interval), histogram in timings.stored_after.items()
    ]
