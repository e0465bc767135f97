"""What the exchange allows and what is used of it; the connections to it."""

from __future__ import annotations

import math
from typing import Literal

import trio

from klineagent.api.models.data import (
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
)
from klineagent.api.models.timestamps import utc
from klineagent.core.interval import SECOND_MS
from klineagent.exchange.budget import OUR_SHARE
from klineagent.exchange.rest import RestClient
from klineagent.exchange.stream.pool import Pool
from klineagent.exchange.stream.slot import Succession
from klineagent.exchange.venues import DIAL_WINDOW_S, NAMES_PER_REQUEST, STREAMS_PER_FEED
from klineagent.storage.spool.spool import Spool
from klineagent.storage.writing.writer import Writer


def limits_of(rest: RestClient, pool: Pool) -> Limits:
    """All budgets, and what is left of them."""
    spending = rest.budget.spending()
    stand_s = spending.standing_down_s
    return Limits(
        rest=RestLimits(
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
            wanted=sum(each.roster.wanted for each in pool.successions),
            limit_per_connection=STREAMS_PER_FEED,
            connections=len(pool.successions),
        ),
        messages=MessageLimits(
            limit_per_second=pool.venue.requests_per_second, streams_per_message=NAMES_PER_REQUEST
        ),
    )


def feeds_of(pool: Pool) -> Feeds:
    """The connections, one by one."""
    return Feeds([_state_of(each) for each in pool.successions])


def _state_of(succession: Succession) -> FeedState:
    now = trio.current_time()
    streams = succession.roster.streams.values()
    # While another takes over, the older one is what counts.
    feed = next((each for each in succession.feeds if each.is_open), None)
    heard_at = succession.heard_at
    return FeedState(
        number=succession.number,
        state=_state_name(succession),
        age_seconds=None if feed is None or feed.connected_at is None else now - feed.connected_at,
        streams_wanted=succession.roster.wanted,
        streams_carried=sum(stream.is_carried for stream in streams),
        messages=0 if feed is None else feed.inbox.received,
        messages_per_second=0 if feed is None else feed.rate,
        last_data_seconds_ago=now - heard_at if math.isfinite(heard_at) else None,
        dials=succession.counts.dials,
        lost=succession.counts.lost,
        replaced=succession.counts.replaced,
        last_loss=(
            LastLoss(succession.last_loss, now - succession.lost_at)
            if succession.counts.lost
            else None
        ),
    )


def _state_name(succession: Succession) -> Literal["up", "taking_over", "down"]:
    if not succession.is_up:
        return "down"
    return "taking_over" if len(succession.feeds) > 1 else "up"


def storage_of(writer: Writer) -> Storage:
    """Whether rows are taken, and where those are that are not."""
    return Storage(
        database=writer.store.label,
        takes_rows=writer.delivery.is_up,
        rows_stored=writer.stored,
        rows_waiting=writer.rows_waiting,
        rows_refused=writer.refused,
        error=writer.delivery.error or None,
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
