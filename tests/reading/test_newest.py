"""The newest candles of a series, where one is not there: it has just opened, or never was."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from tests.reading.test_candles import a_reader, closed_of, ours, rows_of, theirs
from tests.simulations.looking import HOUR_S, MINUTE_S


async def test_who_asks_for_the_newest_candle_gets_one(autojump_clock: MockClock) -> None:
    """Until its first event has come, it is the one before."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1"}
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], venue=SPOT, tick_ms=5_000
    ) as simulation:
        reader, ages_ms = a_reader(simulation), set()
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(2 * MINUTE_S)
            for _ in range(300):
                await trio.sleep(0.7)
                now_ms = simulation.exchange.clock.now_ms()
                (row,) = rows_of(await ours(simulation, reader, query))
                age_ms = now_ms - int(bytes(row)[1:14])
                ages_ms.add(age_ms // MINUTE_MS)
                assert age_ms < MINUTE_MS + 6_000
            assert ages_ms == {0, 1}


async def test_candles_that_never_were_do_not_count(autojump_clock: MockClock) -> None:
    """As on the exchange: the newest ten of a halted symbol began before the halt."""
    market = EventfulMarket(
        RandomMarket(
            symbols=2, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="spot", history_ms=DAY_MS
        )
    )
    async with open_simulation(
        venue=SPOT, market=market, symbols=["ETHUSDT"], intervals=[Interval.M1], history=50
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(HOUR_S)
            with market.halting(["ETHUSDT"]):
                await trio.sleep(HOUR_S)
            await trio.sleep(10 * MINUTE_S + 30)
            (series,) = simulation.agent.registry.subscriptions()
            assert series.ledger.absences
            for query in (
                {"limit": "30"},
                {"limit": "30", "endTime": str(FEBRUARY_2026_MS + 2 * HOUR_MS + 5 * MINUTE_MS)},
                {"limit": "30", "startTime": str(FEBRUARY_2026_MS + 50 * MINUTE_MS)},
            ):
                asked = {"symbol": "ETHUSDT", "interval": "1m", **query}
                now_ms = simulation.exchange.clock.now_ms()
                expected, answer = theirs(simulation, asked), await ours(simulation, reader, asked)
                assert closed_of(answer, now_ms) == closed_of(expected, now_ms)
                assert len(rows_of(answer)) == len(rows_of(expected)) == 30 or "startTime" in query
