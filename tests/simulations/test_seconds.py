"""Candles of one second, which only spot has."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from klineagent.core.interval import SECOND_MS, Interval
from klineagent.exchange.venues import SPOT
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.aggregation import Aggregator

HISTORY = 30


async def _missing(simulation: Simulation, until_ms: int) -> list[int]:
    """Open times of BTCUSDT's 1s candles that closed before `until_ms` and are not stored right."""
    market = Aggregator(simulation.exchange.market)
    stored = {
        kline.open_time: kline
        for kline in await simulation.store.final_klines("spot", "BTCUSDT", "1s")
    }
    first_ms = FEBRUARY_2026_MS - HISTORY * SECOND_MS
    found = []
    for open_ms in range(first_ms, until_ms, SECOND_MS):
        candle, kline = market.whole("BTCUSDT", TwinInterval.S1, open_ms), stored.get(open_ms)
        assert candle is not None
        if kline is None or (kline.trades, kline.close) != (candle.trades, candle.close / 10**8):
            found.append(open_ms)
    return found


async def test_every_second_is_stored_and_an_outage_healed(autojump_clock: MockClock) -> None:
    """Each is there two seconds after its close; those of an outage half a minute after its end."""
    async with open_simulation(
        venue=SPOT, symbols=["BTCUSDT"], intervals=[Interval.S1, Interval.M1], history=HISTORY
    ) as simulation:
        clock = simulation.exchange.clock
        await trio.sleep(120)
        for _ in range(60):
            await trio.sleep(1)
            assert await _missing(simulation, clock.now_ms() - 2 * SECOND_MS) == []
        with simulation.exchange.offline():
            await trio.sleep(600)
        await trio.sleep(30)
        assert await _missing(simulation, clock.now_ms() - 2 * SECOND_MS) == []
        assert not simulation.exchange.breaches
