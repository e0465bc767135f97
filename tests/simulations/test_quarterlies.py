"""Quarterly contracts end while an agent records them, and the next ones follow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import COINM, USDM, Venue
from klineagent.testing.simulation import Simulation, open_simulation
from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import HOUR_S, MINUTE_S, closed

DELIVERY_MS = int(datetime(2026, 3, 27, 8, tzinfo=UTC).timestamp()) * 1_000
START_MS = DELIVERY_MS - 30 * MINUTE_MS
INTERVALS = ("1m", "1h", "1d")


async def _follow(simulation: Simulation, contract: str) -> None:
    """Record the contracts of a type."""
    client = simulation.agent.command.test_client()
    wanted = {"match": {"contract": contract}, "intervals": INTERVALS}
    response = await client.put("/v1/subscriptions", json={"subscriptions": [wanted]})
    assert response.status_code == 200


def _active(simulation: Simulation) -> set[tuple[str, str]]:
    return {
        (each.symbol, each.interval.value)
        for each in simulation.agent.registry.listing()
        if each.is_active
    }


def _not_stored(simulation: Simulation, symbol: str, interval: Interval, end_ms: int) -> list[int]:
    """Open times from the start to `end_ms` of candles that exist and are not stored right."""
    market = Aggregator(simulation.exchange.market)
    stored = {each.open_time: each for each in closed(simulation.store, symbol, interval)}
    missing, twins = [], TwinInterval(interval.value)
    open_ms = interval.open_at(START_MS)
    while open_ms < end_ms:
        candle, kline = market.whole(symbol, twins, open_ms), stored.get(open_ms)
        if candle is not None and (
            kline is None or (kline.trades, kline.close) != (candle.trades, candle.close / 100)
        ):
            missing.append(open_ms)
        open_ms = interval.next_open(open_ms)
    return missing


@pytest.mark.parametrize(("venue", "pair"), [(USDM, "BTCUSDT"), (COINM, "BTCUSD")])
async def test_the_current_contract_is_followed_by_the_next(
    autojump_clock: MockClock, venue: Venue, pair: str
) -> None:
    """The old one is recorded to its end, the new one within two minutes; nothing is missing."""
    market = RandomMarket(symbols=1, seed=1, start_ms=START_MS, venue_name=venue.name)
    old, new = f"{pair}_260327", f"{pair}_260626"
    async with open_simulation(symbols=[], market=market, venue=venue, history=60) as simulation:
        await _follow(simulation, "CURRENT_QUARTER")
        await trio.sleep(29 * MINUTE_S)
        assert _active(simulation) == {(old, each) for each in INTERVALS}
        await trio.sleep(3 * MINUTE_S)
        assert {(new, each) for each in INTERVALS} <= _active(simulation)
        assert _not_stored(simulation, old, Interval.M1, DELIVERY_MS) == []
        await trio.sleep(MINUTE_S * 5)
        assert _not_stored(simulation, old, Interval.H1, DELIVERY_MS) == []
        # The day in which it ended is there once it is over, though the list names it no more.
        await trio.sleep(17 * HOUR_S)
        midnight_ms = DELIVERY_MS // DAY_MS * DAY_MS + DAY_MS
        for interval in (Interval.M1, Interval.H1, Interval.D1):
            assert _not_stored(simulation, old, interval, midnight_ms) == []
            assert _not_stored(simulation, new, interval, midnight_ms) == []
        assert _active(simulation) == {(new, each) for each in INTERVALS}
        assert not simulation.exchange.breaches


async def test_the_next_contract_is_recorded_from_its_listing_on(
    autojump_clock: MockClock,
) -> None:
    """It comes when the one before it becomes the current one, which another pattern wants."""
    market = RandomMarket(symbols=1, seed=1, start_ms=START_MS)
    async with open_simulation(symbols=[], market=market, history=60) as simulation:
        await _follow(simulation, "NEXT_QUARTER")
        await trio.sleep(29 * MINUTE_S)
        assert _active(simulation) == {("BTCUSDT_260626", each) for each in INTERVALS}
        await trio.sleep(4 * MINUTE_S)
        assert _active(simulation) == {("BTCUSDT_260925", each) for each in INTERVALS}
        await trio.sleep(HOUR_S)
        end_ms = simulation.exchange.clock.now_ms() - MINUTE_MS
        assert _not_stored(simulation, "BTCUSDT_260925", Interval.M1, end_ms) == []
