"""How far back answers reach: what is not known is refused, what never was is no gap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from klineagent.core.errors import NotReadable
from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.reading.candles import CandleReader
from klineagent.reading.request import CandleRequest
from klineagent.reading.rows import with_shortest_numbers
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from tests.reading.test_candles import closed_of, ours, rows_of, theirs
from tests.simulations.looking import HOUR_S, MINUTE_S

NEWEST = {"symbol": "BTCUSDT", "interval": "1m", "limit": "90"}


@asynccontextmanager
async def reading(
    venue: Venue, market: EventfulMarket | None = None, **settings: int
) -> AsyncIterator[tuple[Simulation, CandleReader]]:
    """An agent with 60 candles of history, and a reader that follows it."""
    async with open_simulation(
        **{"history": 60, "tick_ms": 1_000, **settings},  # type: ignore[arg-type]
        symbols=["BTCUSDT"],
        intervals=[Interval.M1],
        venue=venue,
        market=market or listed(venue, days=3),
    ) as simulation:
        reader = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(2 * MINUTE_S + 7)
            yield simulation, reader


def listed(venue: Venue, days: float) -> EventfulMarket:
    """A market whose symbols were listed so long before the start."""
    history_ms = round(days * DAY_MS)
    return EventfulMarket(
        RandomMarket(
            symbols=3,
            seed=1,
            start_ms=FEBRUARY_2026_MS,
            venue_name=venue.name,
            history_ms=history_ms,
        )
    )


async def test_a_start_within_time_that_was_not_recorded_is_refused(
    autojump_clock: MockClock,
) -> None:
    """Even for one candle; from before the listing on, the answer is what there is."""
    async with reading(USDM) as (simulation, reader):
        for since_ms in (FEBRUARY_2026_MS - DAY_MS, FEBRUARY_2026_MS - 61 * MINUTE_MS):
            for more in ({}, {"limit": "1"}, {"endTime": str(since_ms + MINUTE_MS)}):
                with pytest.raises(NotReadable, match=r"recorded from .*--history"):
                    await ours(simulation, reader, {**NEWEST, **more, "startTime": str(since_ms)})
        all_of_it = rows_of(await ours(simulation, reader, {**NEWEST, "startTime": "0"}))
        assert len(all_of_it) == 63
        nothing = {**NEWEST, "startTime": "0", "endTime": str(FEBRUARY_2026_MS - DAY_MS)}
        with pytest.raises(NotReadable, match="recorded from"):
            await ours(simulation, reader, nothing)


async def test_a_limit_counts_the_candles_that_exist(autojump_clock: MockClock) -> None:
    """The newest ninety reach back past a halt, and so do ninety from a time on."""
    market = listed(SPOT, days=3)
    async with reading(SPOT, market, history=500) as (simulation, reader):
        with market.halting(["BTCUSDT"], flat=False):
            await trio.sleep(HOUR_S)
        await trio.sleep(20 * MINUTE_S)
        since = {"startTime": str(FEBRUARY_2026_MS - 50 * MINUTE_MS)}
        for query in (NEWEST, {**NEWEST, **since}):
            now_ms = simulation.exchange.clock.now_ms()
            rows = closed_of(await ours(simulation, reader, query), now_ms)
            assert len(rows) >= 70
            assert rows == closed_of(theirs(simulation, query), now_ms)


async def test_a_symbol_that_is_younger_than_the_history_is_whole(
    autojump_clock: MockClock,
) -> None:
    """Though spot does not say when it was listed, and there are fewer candles than the limit."""
    async with reading(SPOT, listed(SPOT, days=1 / 24), history=500) as (simulation, reader):
        for query in ({"limit": "200"}, {"limit": "5", "startTime": "1700000000000"}):
            now_ms = simulation.exchange.clock.now_ms()
            rows = closed_of(await ours(simulation, reader, {**NEWEST, **query}), now_ms)
            assert rows == closed_of(theirs(simulation, {**NEWEST, **query}), now_ms)
            assert rows


@pytest.mark.logs("row_refused")
async def test_a_candle_whose_row_the_store_refuses_is_not_left_out(
    autojump_clock: MockClock,
) -> None:
    """It exists, so an answer without it would have a hole; it is in memory for a while."""
    open_ms = FEBRUARY_2026_MS + 3 * MINUTE_MS
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "10"}
    async with reading(USDM) as (simulation, reader):
        await ours(simulation, reader, query)
        with simulation.store.refusing(lambda kline: kline.open_time == open_ms):
            await trio.sleep(10 * MINUTE_S)
        [series] = simulation.agent.registry.subscriptions()
        assert open_ms in series.ledger.absences
        now_ms = simulation.exchange.clock.now_ms()
        answer = await ours(simulation, reader, query)
        assert closed_of(answer, now_ms) == closed_of(theirs(simulation, query), now_ms)
        unaware = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        with (
            simulation.agent.bus.subscribed(unaware.tail),
            pytest.raises(NotReadable, match=r"refuses candles of BTCUSDT 1m .*spool list"),
        ):
            await ours(simulation, unaware, query)


@given(
    limit=st.integers(1, 20),
    since=st.none() | st.integers(-30, 0),
    is_oldest_first=st.booleans(),
    absent=st.sets(st.integers(-40, 0)),
)
def test_the_range_of_a_request_has_as_many_candles_as_the_limit_or_all(
    limit: int, since: int | None, *, is_oldest_first: bool, absent: set[int]
) -> None:
    """Whichever do not exist; it begins or ends where the request does."""
    opened_ms = FEBRUARY_2026_MS
    asked = CandleRequest(
        symbol="BTCUSDT",
        interval=Interval.M1,
        since_ms=None if since is None else opened_ms + since * MINUTE_MS,
        until_ms=None,
        limit=limit,
        is_oldest_first=is_oldest_first and since is not None,
    )

    def minutes(first_ms: int, end_ms: int) -> set[int]:
        return {*range((first_ms - opened_ms) // MINUTE_MS, (end_ms - opened_ms) // MINUTE_MS)}

    bounds = asked.bounds(
        opened_ms, lambda first_ms, end_ms: len(minutes(first_ms, end_ms) & absent)
    )
    everything = minutes(opened_ms - HOUR_MS if since is None else asked.since_ms or 0, opened_ms)
    everything |= {0}
    existing = sorted(everything - absent)
    wanted = existing[:limit] if asked.is_oldest_first else existing[-limit:]
    assert sorted(minutes(*bounds) - absent) == wanted


@given(st.decimals(min_value=0, max_value=10**9, places=5))
def test_numbers_of_fifteen_digits_are_written_as_they_were(number: object) -> None:
    """A float with eight decimals shows digits that nobody wrote."""
    text = f"{number}000"
    written = f"{float(text):.8f}"
    assert with_shortest_numbers(f'["{written}",7]') == f'["{text}",7]'
