"""Limits, connections and storage as the API reports them."""

from __future__ import annotations

import math
from typing import Literal

import trio
from msgspec.structs import asdict

from klineagent.api.models.reports import (
    ConnectionLimits,
    Feeds,
    FeedState,
    LastLoss,
    Limits,
    MessageLimits,
    RestLimits,
    SpoolState,
    Storage,
    StreamLimits,
    VenueLimits,
)
from klineagent.api.models.timestamps import utc
from klineagent.core.interval import SECOND_MS
from klineagent.exchange.budget import OUR_SHARE
from klineagent.exchange.stream.slot import ConnectionSlot
from klineagent.exchange.venues import (
    DIAL_WINDOW_S,
    NAMES_PER_REQUEST,
    STREAMS_PER_CONNECTION,
    Venue,
)
from klineagent.series.context import VenueContext
from klineagent.series.venues import Venues
from klineagent.storage.spool.spool import Spool
from klineagent.storage.writing.writer import Writer


def limits_of(venues: Venues) -> Limits:
    """Report every limit, and how much of it is used."""
    main = venues.main
    others = [limits_of_venue(each.context) for each in venues if each is not main]
    return Limits(**asdict(limits_of_venue(main.context)), others=others)


def limits_of_venue(context: VenueContext) -> VenueLimits:
    """Report the limits of one venue, and how much of them is used."""
    rest, pool = context.rest, context.pool
    spending = rest.budget.spending()
    stand_s = spending.backing_off_s
    return VenueLimits(
        venue=rest.venue.name,
        rest=RestLimits(
            pool=rest.budget.pool.name,
            used=spending.used,
            limit=spending.limit,
            allowed=spending.per_minute,
            share=OUR_SHARE,
            minute_ends_in_seconds=rest.budget.minute_left_s(),
            requests_under_way=spending.under_way,
            requests_waiting=spending.waiting,
            standing_down_seconds=stand_s,
            standing_down_until=(
                utc(rest.time.now_ms() + int(stand_s * SECOND_MS)) if stand_s else None
            ),
        ),
        connections=ConnectionLimits(
            used=pool.dials.taken, limit=pool.dials.count, window_seconds=DIAL_WINDOW_S
        ),
        streams=StreamLimits(
            wanted=sum(each.stream_set.wanted for each in pool.slots),
            limit_per_connection=STREAMS_PER_CONNECTION,
            connections=len(pool.slots),
        ),
        messages=MessageLimits(
            limit_per_second=pool.venue.requests_per_second, streams_per_message=NAMES_PER_REQUEST
        ),
    )


def feeds_of(venues: Venues) -> Feeds:
    """Report every connection slot, venue by venue."""
    pools = [each.context.pool for each in venues]
    return Feeds([_state_of(each, pool.venue) for pool in pools for each in pool.slots])


def _state_of(slot: ConnectionSlot, venue: Venue) -> FeedState:
    now = trio.current_time()
    streams = slot.stream_set.streams.values()
    # During a takeover, the old connection is reported.
    connection = next((each for each in slot.connections if each.is_open), None)
    last_kline_at = slot.last_kline_at
    return FeedState(
        venue=venue.name,
        number=slot.number,
        state=_state_name(slot),
        age_seconds=None
        if connection is None or connection.connected_at is None
        else now - connection.connected_at,
        streams_wanted=slot.stream_set.wanted,
        streams_carried=sum(stream.is_carried for stream in streams),
        messages=0 if connection is None else connection.dispatcher.received,
        messages_per_second=0 if connection is None else connection.rate,
        last_data_seconds_ago=now - last_kline_at if math.isfinite(last_kline_at) else None,
        dials=slot.counts.dials,
        lost=slot.counts.lost,
        replaced=slot.counts.replaced,
        last_loss=(LastLoss(slot.last_loss, now - slot.lost_at) if slot.counts.lost else None),
    )


def _state_name(slot: ConnectionSlot) -> Literal["up", "taking_over", "down"]:
    if not slot.is_up:
        return "down"
    return "taking_over" if len(slot.connections) > 1 else "up"


def storage_of(writer: Writer) -> Storage:
    """Report whether the database takes rows, and where waiting rows are."""
    return Storage(
        database=writer.store.label,
        takes_rows=writer.inserter.is_up,
        rows_stored=writer.stored,
        rows_waiting=writer.rows_waiting,
        rows_refused=writer.refused,
        error=writer.inserter.error or None,
        spool=_spool_state(writer.spool, writer.spool_error) if writer.spool is not None else None,
    )


def _spool_state(spool: Spool, error: str) -> SpoolState:
    return SpoolState(
        where=spool.disk.label,
        rows=spool.rows,
        batches=spool.segments,
        bytes=spool.bytes,
        limit_bytes=spool.limit_bytes,
        error=error or None,
    )
