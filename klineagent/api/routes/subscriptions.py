"""`/v1/subscriptions`: reads, replaces and changes the desired set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice

from attrs import evolve
from msgspec.structs import replace
from quart_trio import QuartTrio
from structlog.contextvars import bound_contextvars

from klineagent.api.models.contract import venue_beside
from klineagent.api.models.subscriptions import (
    DryRun,
    ForecastTold,
    StreamsNow,
    SubscriptionChange,
    SubscriptionOutcome,
    SubscriptionsNow,
    SymbolReason,
)
from klineagent.api.openapi import operation
from klineagent.api.requests import read_body, read_query
from klineagent.api.subscriptions import confirmed_within
from klineagent.core.errors import InvalidRequest, NotConfirmed, ShuttingDown, SymbolLimitReached
from klineagent.exchange.venues import VENUES, Venue, full_name
from klineagent.series.desired.demand import Change, plan
from klineagent.series.desired.forecast import Forecast, forecast_change
from klineagent.series.desired.selection import (
    Listings,
    Match,
    Selection,
    SeriesSet,
    count,
    in_order,
)
from klineagent.series.desired.wire_format import (
    Entries,
    Pattern,
    SetReader,
    SubscriptionSet,
    by_venue,
    pattern_of,
    placed,
    write,
)
from klineagent.series.venues import RunningVenue, Venues

PATH = "/v1/subscriptions"
# Symbols can be validated once exchangeInfo is there, a second after a start.
KNOWN_WITHIN_S = 5
MOST_STREAMS_NAMED = 20
MOST_REASONS = 100

_ERRORS = (InvalidRequest, SymbolLimitReached, NotConfirmed, ShuttingDown)


def add_subscription_routes(app: QuartTrio, venues: Venues) -> None:
    """Add the routes of the desired set, which is one for all venues."""

    @app.get(PATH)
    @operation(SubscriptionsNow, tag="subscriptions")
    async def get_subscriptions() -> SubscriptionsNow:
        """Return the desired set, and the progress towards it.

        `subscriptions` and `exclude` can be sent back by PUT.
        """
        return await _now(venues, saved=await venues.main.desired.saved())

    @app.put(PATH)
    @operation(
        SubscriptionOutcome,
        tag="subscriptions",
        body=SubscriptionSet,
        query=DryRun,
        raises=_ERRORS,
    )
    async def put_subscriptions() -> SubscriptionOutcome:
        """Replace the whole set, on all venues, except for what the configuration names.

        The answer comes at once, and the change is carried out in the background. It is idempotent.
        """
        dry_run, asked = read_query(DryRun).dry_run, await read_body(SubscriptionSet)
        entries = [*placed(asked.subscriptions, "subscriptions"), *placed(asked.exclude, "exclude")]
        async with _readers(venues, entries) as readers:
            selections = dict.fromkeys((each.venue.name for each in venues), Selection())
            selections |= {each.venue.name: each.selection(asked) for each in readers}
            return await _carry_out(venues, selections, dry_run=dry_run)

    @app.patch(PATH)
    @operation(
        SubscriptionOutcome,
        tag="subscriptions",
        body=SubscriptionChange,
        query=DryRun,
        raises=_ERRORS,
    )
    async def patch_subscriptions() -> SubscriptionOutcome:
        """Change the set: `remove`, then `add`.

        Removing what is not in the set, or adding what is, changes nothing.
        """
        dry_run, asked = read_query(DryRun).dry_run, await read_body(SubscriptionChange)
        entries = [*placed(asked.remove, "remove"), *placed(asked.add, "add")]
        selections = {}
        async with _readers(venues, entries) as readers:
            for reader in readers:
                # What is removed at "all" intervals is removed at 1s, too, whatever "all" adds.
                everything = evolve(reader, all_intervals=reader.venue.intervals)
                gone = everything.wanted(asked.remove, "remove")
                left = venues.running(reader.venue).desired.demand.removing(gone)
                more = reader.wanted(asked.add, "add")
                selections[reader.venue.name] = left.adding(more, reader.listings)
            return await _carry_out(venues, selections, dry_run=dry_run)


@asynccontextmanager
async def _readers(venues: Venues, entries: Entries) -> AsyncIterator[list[SetReader]]:
    """Make a reader for each venue that `entries` name, for the default one if there are none.

    Each knows its venue's symbols. A venue of which nothing is wanted runs until the block ends.

    Raises:
        InvalidRequest: an entry names nothing, or no venue, or one that must not be opened.
        NotConfirmed: a venue, named if it is not the default one, has not listed its symbols in
            time.
    """
    named = by_venue(entries, venues.default) or [venues.default]
    async with AsyncExitStack() as visits:
        opened = [
            (await visits.enter_async_context(venues.visiting(venue))).desired for venue in named
        ]
        known: dict[Venue, Listings] = {}

        def obstacle() -> str:
            late = next(each for each in opened if each.venue not in known)
            name = "" if late.venue == venues.default else f"{late.venue.name}: "
            return f"{name}{late.obstacle() or 'its symbols are not known yet'}"

        # One deadline for all: they load at the same time.
        with confirmed_within(KNOWN_WITHIN_S, obstacle):
            for each in opened:
                known[each.venue] = await each.listings()
        yield [
            SetReader(
                venue=each.venue,
                default=venues.default,
                listings=known[each.venue],
                present=each.demand.selection.naming(each.demand.configured),
            )
            for each in opened
        ]


async def _carry_out(
    venues: Venues, selections: Mapping[str, Selection], *, dry_run: bool
) -> SubscriptionOutcome:
    """Replace the selections of some venues, by their names."""
    # No await before the change is adopted, nor before the forecast reads the connections: the
    # answer describes exactly what was done.
    running = {each.venue.name: each for each in venues}
    changes = plan({name: each.desired.demand for name, each in running.items()}, selections)
    if not dry_run:
        for name, change in changes.items():
            with bound_contextvars(**({} if name == venues.default.name else {"venue": name})):
                running[name].desired.adopt(change)
    forecasts = [
        (running[name].context.rest.budget.pool.name, await _forecast(running[name], change))
        for name, change in changes.items()
    ]
    saved = not dry_run and await venues.main.desired.saved()
    default, each = venues.default, changes.values()
    return SubscriptionOutcome(
        dry_run=dry_run,
        added=sum(count(change.added) for change in each),
        removed=sum(count(change.removed) for change in each),
        added_streams=_names({name: change.added for name, change in changes.items()}, default),
        removed_streams=_names({name: change.removed for name, change in changes.items()}, default),
        wanted=sum(count(change.wanted) for change in each),
        symbols=sum(len(change.wanted) for change in each),
        unmatched=_patterns({name: change.unmatched for name, change in changes.items()}, default),
        forecast=_told(forecasts),
        saved=saved,
    )


async def _forecast(running: RunningVenue, change: Change) -> Forecast:
    return await forecast_change(running.context, change.wanted, change.added, change.removed)


def _told(forecasts: Sequence[tuple[str, Forecast]]) -> ForecastTold:
    """Add up the forecasts of venues, each with the name of its weight pool."""
    minutes: defaultdict[str, float] = defaultdict(float)
    for pool, forecast in forecasts:
        minutes[pool] += forecast.history_minutes
    each = [forecast for _, forecast in forecasts]
    return ForecastTold(
        feeds=sum(forecast.placement.connections for forecast in each),
        new_feeds=sum(forecast.placement.dials for forecast in each),
        # Venues subscribe at the same time, and so do pools fetch.
        subscribe_seconds=round(max(forecast.subscribe_s for forecast in each), 1),
        history_candles=sum(forecast.history_candles for forecast in each),
        history_weight=sum(forecast.history_weight for forecast in each),
        history_minutes=round(max(minutes.values()), 1),
        rows_per_day=round(sum(forecast.rows_per_day for forecast in each)),
        bytes_per_day=round(sum(forecast.bytes_per_day for forecast in each)),
    )


def _names(series: Mapping[str, SeriesSet], default: Venue) -> list[str]:
    """Name the first streams of `series`, which are those of venues by name."""
    names = (
        f"{full_name(VENUES[venue], symbol, default)} {interval}"
        for venue, some in series.items()
        for symbol, interval in in_order(some)
    )
    return list(islice(names, MOST_STREAMS_NAMED))


def _patterns(matches: Mapping[str, Iterable[Match]], default: Venue) -> list[Pattern]:
    return [
        pattern_of(match, VENUES[venue], default)
        for venue, some in matches.items()
        for match in some
    ]


async def _now(venues: Venues, *, saved: bool) -> SubscriptionsNow:
    default, running = venues.default, {each.venue.name: each.desired for each in venues}
    progress = {name: await desired.progress() for name, desired in running.items()}
    asked = [write(each.demand.selection, each.venue, default) for each in running.values()]
    configured = [
        write(Selection(named=each.demand.configured), each.venue, default)
        for each in running.values()
    ]
    each = progress.values()
    wanted, active = sum(count(now.wanted) for now in each), sum(now.active for now in each)
    return SubscriptionsNow(
        subscriptions=[
            *(
                replace(entry, origin="configuration")
                for some in configured
                for entry in some.subscriptions
            ),
            *(replace(entry, origin="http") for some in asked for entry in some.subscriptions),
        ],
        exclude=[entry for some in asked for entry in some.exclude],
        symbols=sum(len(now.wanted) for now in each),
        max_symbols=venues.places.most,
        streams=StreamsNow(
            wanted=wanted,
            active=active,
            pending=wanted - active,
            ending=sum(count(now.ending) for now in each),
        ),
        pending=_reasons({name: now.pending for name, now in progress.items()}, default),
        refused=_reasons({name: now.refused for name, now in progress.items()}, default),
        unmatched=_patterns({name: now.unmatched for name, now in progress.items()}, default),
        saved=saved,
    )


def _reasons(reasons: Mapping[str, Mapping[str, str]], default: Venue) -> list[SymbolReason]:
    named = (
        (full_name(VENUES[venue], symbol, default), reason)
        for venue, some in reasons.items()
        for symbol, reason in some.items()
    )
    first = islice(named, MOST_REASONS)
    return [SymbolReason(name, reason, venue_beside(name)) for name, reason in first]
