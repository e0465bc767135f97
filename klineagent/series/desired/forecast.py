"""The forecast of a change: connections, time, weight, rows. Pure, except `forecast_change`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from attrs import frozen

from klineagent.core.interval import DAY_MS, Interval
from klineagent.exchange.venues import (
    DIAL_WINDOW_S,
    DIALS_PER_WINDOW,
    NAMES_PER_REQUEST,
    STREAMS_PER_CONNECTION,
    Venue,
)
from klineagent.exchange.wire import stream_name
from klineagent.series.backfill.pages import page_of
from klineagent.series.backfill.startup import history_since
from klineagent.series.context import VenueContext
from klineagent.series.desired.selection import SeriesSet, count, in_order

# Measured: 110,614 closed candles of seven symbols at fifteen intervals, a month of 1m and of its
# aggregates, took 38 to 39 bytes each in today's engine, merged. Old servers, without codecs, need
# more.
BYTES_PER_ROW = 39
# Symbols between two checkpoints: four milliseconds if they are younger than their history.
SYMBOLS_AT_ONCE = 100
# The shortest time that is a whole number of weeks, of three days and of months.
_CYCLE_DAYS = 10_227


@frozen
class Occupancy:
    """A connection before a change."""

    staying: int
    """The number of streams that it keeps."""
    leaving: int
    """The number of streams that it will unsubscribe."""
    room: int
    """The number of streams that it can take before it has unsubscribed others."""


@frozen(kw_only=True)
class Placement:
    """Connections after a change."""

    connections: int
    dials: int
    """The number of new connections."""
    requests: int
    """The number of messages on the connection that needs the most."""


@frozen(kw_only=True)
class Forecast:
    """The cost of a change, at most, and the rows that it makes."""

    placement: Placement
    subscribe_s: float
    """Seconds until all streams are requested within the exchange's limits."""
    history_candles: int
    history_weight: int
    """The request weight for `history_candles` if the store holds none of them."""
    history_minutes: float
    """Minutes in which the budget allows that weight."""
    rows_per_day: float
    """The number of closed candles per day of the whole set."""

    @property
    def bytes_per_day(self) -> float:
        """The size of these rows in the database."""
        return self.rows_per_day * BYTES_PER_ROW


async def forecast_change(
    context: VenueContext, wanted: SeriesSet, added: SeriesSet, removed: SeriesSet
) -> Forecast:
    """Forecast the change of the venue's running set to `wanted`.

    The state of the connections is read before the first await; history is summed up in portions.
    """
    venue, pool = context.rest.venue, context.pool
    names = {stream_name(symbol, interval) for symbol, interval in in_order(removed)}
    connections = []
    for stream_set in [slot.stream_set for slot in pool.slots]:
        leaving = len(names & stream_set.streams.keys())
        room = STREAMS_PER_CONNECTION - len(stream_set)
        connections.append(
            Occupancy(staying=stream_set.wanted - leaving, leaving=leaving, room=room)
        )
    placement = place(connections, count(added))
    asking_s = subscribe_s(placement, venue, pool.dials.taken)
    now_ms, candles, weight = context.time.now_ms(), 0, 0
    symbols = list(added)
    for at in range(0, len(symbols), SYMBOLS_AT_ONCE):
        some, costs = history(
            {symbol: added[symbol] for symbol in symbols[at : at + SYMBOLS_AT_ONCE]},
            venue,
            now_ms=now_ms,
            candles=context.startup_scan.history,
            listed_ms=context.book.listed_ms,
        )
        candles, weight = candles + some, weight + costs
        await trio.lowlevel.checkpoint()
    return Forecast(
        placement=placement,
        subscribe_s=asking_s,
        history_candles=candles,
        history_weight=weight,
        history_minutes=weight / context.rest.budget.limit,
        rows_per_day=rows_per_day(wanted),
    )


def place(connections: Sequence[Occupancy], added: int) -> Placement:
    """Place `added` streams: on the first connections with room, then on new ones."""
    kept = requests = 0
    for connection in connections:
        taken = min(added, connection.room)
        added -= taken
        kept += 1 if connection.staying + taken else 0
        requests = max(requests, _requests(taken) + _requests(connection.leaving))
    dials = math.ceil(added / STREAMS_PER_CONNECTION)
    return Placement(
        connections=kept + dials,
        dials=dials,
        requests=max(requests, _requests(min(added, STREAMS_PER_CONNECTION))),
    )


def subscribe_s(placement: Placement, venue: Venue, dials_taken: int) -> float:
    """Return the seconds that the limits on messages and dials make a change take."""
    late = max(0, dials_taken + placement.dials - DIALS_PER_WINDOW)
    dialling_s = math.ceil(late / DIALS_PER_WINDOW) * DIAL_WINDOW_S
    return dialling_s + placement.requests / venue.requests_per_second


def history(
    added: SeriesSet, venue: Venue, *, now_ms: int, candles: int, listed_ms: Callable[[str], int]
) -> tuple[int, int]:
    """Return the number of candles of history of `added`, and the weight to fetch them."""

    def since(interval: Interval, first_ms: int) -> tuple[int, int]:
        end_ms = interval.open_at(now_ms)
        first_ms = min(first_ms, end_ms)
        return interval.count(first_ms, end_ms), _weight(first_ms, end_ms, interval, venue)

    oldest_ms = {
        interval: history_since(interval, interval.open_at(now_ms), candles)
        for interval in frozenset().union(*added.values())
    }
    # Nearly all symbols are older than their history, so their costs are computed once.
    whole = {interval: since(interval, first_ms) for interval, first_ms in oldest_ms.items()}
    total = weight = 0
    for symbol, intervals in added.items():
        symbol_ms = listed_ms(symbol)
        for interval in intervals:
            is_older = symbol_ms <= oldest_ms[interval]
            found = whole[interval] if is_older else since(interval, interval.open_at(symbol_ms))
            total, weight = total + found[0], weight + found[1]
    return total, weight


def rows_per_day(wanted: SeriesSet) -> float:
    """Return the number of candles of `wanted` that close in a day."""
    # Summed up by equal interval sets: most symbols are wanted at the same intervals.
    alike = Counter(wanted.values())
    return sum(times * sum(map(_PER_DAY.__getitem__, each)) for each, times in alike.items())


def _requests(streams: int) -> int:
    return math.ceil(streams / NAMES_PER_REQUEST)


def _weight(first_ms: int, end_ms: int, interval: Interval, venue: Venue) -> int:
    """Return the weight of the requests that fill a gap, page by page."""
    weight = 0
    while first_ms < end_ms:
        page = page_of(first_ms, end_ms, interval, venue)
        weight += venue.klines_weight(page.limit)
        first_ms = interval.next_open(interval.open_at(page.last_ms))
    return weight


def _per_day(interval: Interval) -> float:
    first_ms = interval.first_open(0)
    cycle_ms = _CYCLE_DAYS * DAY_MS
    return interval.count(first_ms, interval.open_at(first_ms + cycle_ms)) / _CYCLE_DAYS


_PER_DAY = {interval: _per_day(interval) for interval in Interval}
