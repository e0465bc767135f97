"""`/v1/subscriptions`: reads, replaces and changes the desired set."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from attrs import evolve
from msgspec.structs import replace
from quart_trio import QuartTrio

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
from klineagent.series.desired.demand import Change
from klineagent.series.desired.desired import Desired
from klineagent.series.desired.forecast import Forecast, forecast_change
from klineagent.series.desired.selection import Selection, SeriesSet, count, in_order
from klineagent.series.desired.wire_format import SetReader, SubscriptionSet, pattern_of, write

PATH = "/v1/subscriptions"
# Symbols can be validated once exchangeInfo is there, a second after a start.
KNOWN_WITHIN_S = 5
MOST_STREAMS_NAMED = 20
MOST_REASONS = 100

_ERRORS = (InvalidRequest, SymbolLimitReached, NotConfirmed, ShuttingDown)


def add_subscription_routes(app: QuartTrio, desired: Desired) -> None:
    """Add the routes of the desired set."""

    @app.get(PATH)
    @operation(SubscriptionsNow, tag="subscriptions")
    async def get_subscriptions() -> SubscriptionsNow:
        """Return the desired set, and the progress towards it.

        `subscriptions` and `exclude` can be sent back by PUT.
        """
        return await _now(desired, saved=await desired.saved())

    @app.put(PATH)
    @operation(
        SubscriptionOutcome,
        tag="subscriptions",
        body=SubscriptionSet,
        query=DryRun,
        raises=_ERRORS,
    )
    async def put_subscriptions() -> SubscriptionOutcome:
        """Replace the whole set, except for what the configuration names.

        The answer comes at once, and the change is carried out in the background. It is idempotent.
        """
        dry_run, asked = read_query(DryRun).dry_run, await read_body(SubscriptionSet)
        reader = await _reader(desired)
        return await _carry_out(desired, reader.selection(asked), dry_run=dry_run)

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
        reader = await _reader(desired)
        # What is removed at "all" intervals is removed at 1s, too, whatever "all" adds.
        everything = evolve(reader, all_intervals=desired.venue.intervals)
        gone, more = everything.wanted(asked.remove, "remove"), reader.wanted(asked.add, "add")
        left = desired.demand.removing(gone)
        return await _carry_out(desired, left.adding(more, reader.listings), dry_run=dry_run)


async def _reader(desired: Desired) -> SetReader:
    """Make a reader that knows the exchange's symbols.

    Raises:
        NotConfirmed: the exchange has not listed them in time.
    """
    with confirmed_within(KNOWN_WITHIN_S, desired.obstacle):
        listings = await desired.listings()
    demand = desired.demand
    present = demand.selection.naming(demand.configured)
    return SetReader(venue=desired.venue, listings=listings, present=present)


async def _carry_out(
    desired: Desired, selection: Selection, *, dry_run: bool
) -> SubscriptionOutcome:
    # No await before the change is adopted, nor before the forecast reads the connections: the
    # answer describes exactly what was done.
    change = desired.demand.change(selection)
    if not dry_run:
        desired.adopt(change)
    context = desired.registry.context
    forecast = await forecast_change(context, change.wanted, change.added, change.removed)
    saved = not dry_run and await desired.saved()
    return _outcome(change, forecast, dry_run=dry_run, saved=saved)


def _outcome(
    change: Change, forecast: Forecast, *, dry_run: bool, saved: bool
) -> SubscriptionOutcome:
    return SubscriptionOutcome(
        dry_run=dry_run,
        added=count(change.added),
        removed=count(change.removed),
        added_streams=_names(change.added),
        removed_streams=_names(change.removed),
        wanted=count(change.wanted),
        symbols=len(change.wanted),
        unmatched=list(map(pattern_of, change.unmatched)),
        forecast=_forecast(forecast),
        saved=saved,
    )


def _names(series: SeriesSet) -> list[str]:
    return [
        f"{symbol} {interval}" for symbol, interval in islice(in_order(series), MOST_STREAMS_NAMED)
    ]


def _forecast(forecast: Forecast) -> ForecastTold:
    return ForecastTold(
        feeds=forecast.placement.connections,
        new_feeds=forecast.placement.dials,
        subscribe_seconds=round(forecast.subscribe_s, 1),
        history_candles=forecast.history_candles,
        history_weight=forecast.history_weight,
        history_minutes=round(forecast.history_minutes, 1),
        rows_per_day=round(forecast.rows_per_day),
        bytes_per_day=round(forecast.bytes_per_day),
    )


async def _now(desired: Desired, *, saved: bool) -> SubscriptionsNow:
    venue = desired.venue
    asked = write(desired.demand.selection, venue)
    configured = write(Selection(named=desired.demand.configured), venue)
    progress = await desired.progress()
    wanted = count(progress.wanted)
    return SubscriptionsNow(
        subscriptions=[
            *(replace(each, origin="configuration") for each in configured.subscriptions),
            *(replace(each, origin="http") for each in asked.subscriptions),
        ],
        exclude=asked.exclude,
        symbols=len(progress.wanted),
        max_symbols=desired.registry.places.most,
        streams=StreamsNow(
            wanted=wanted,
            active=progress.active,
            pending=wanted - progress.active,
            ending=count(progress.ending),
        ),
        pending=_reasons(progress.pending),
        refused=_reasons(progress.refused),
        unmatched=list(map(pattern_of, progress.unmatched)),
        saved=saved,
    )


def _reasons(reasons: Mapping[str, str]) -> list[SymbolReason]:
    first = islice(reasons.items(), MOST_REASONS)
    return [SymbolReason(symbol=symbol, reason=reason) for symbol, reason in first]
