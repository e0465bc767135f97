"""The whole agent on a virtual clock, against the exchange twin over memory streams."""

from __future__ import annotations

from itertools import pairwise

import httpx2
import pytest
import trio
from trio.testing import MockClock

from examples.simulated_day import simulate_day
from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.exchange.venues import COINM, SPOT, Venue
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork

HOUR_S = 3600.0
MINUTE_S = 60.0


def _gaps(klines: list[Kline], interval: Interval) -> int:
    return sum(
        after.open_time != interval.next_open(before.open_time)
        for before, after in pairwise(klines)
    )


async def test_a_day_is_stored_whole(autojump_clock: MockClock, simulation: Simulation) -> None:
    """Twenty-four hours of three symbols at three intervals: every candle, none made up."""
    await trio.sleep(24 * HOUR_S + MINUTE_S)
    for summary in await simulation.store.summary():
        interval = Interval(summary.interval)
        klines = await simulation.store.final_klines("usdm", summary.symbol, summary.interval)
        assert klines[0].open_time <= interval.open_at(FEBRUARY_2026_MS)
        assert klines[-1].close_time == FEBRUARY_2026_MS + DAY_MS - 1
        assert _gaps(klines, interval) == 0
    assert len(await simulation.store.summary()) == 9


async def test_higher_intervals_are_what_their_minutes_make(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The hour's candle agrees with the sixty that it spans, from history or from the stream."""
    await trio.sleep(3 * HOUR_S)
    minutes = await simulation.store.final_klines("usdm", "BTCUSDT", "1m")
    # Of the minutes there is a shorter history: 500 of each are fetched.
    hours = await simulation.store.final_klines("usdm", "BTCUSDT", "1h", newest=10)
    assert len(hours) == 10
    for hour in hours:
        inside = [m for m in minutes if hour.open_time <= m.open_time <= hour.close_time]
        assert len(inside) == 60
        assert hour.open == inside[0].open
        assert hour.close == inside[-1].close
        assert hour.high == max(m.high for m in inside)
        assert hour.trades == sum(m.trades for m in inside)
        assert hour.volume == pytest.approx(sum(m.volume for m in inside), rel=1e-12)


async def test_the_examples_day_has_no_gap(autojump_clock: MockClock) -> None:
    """An hour without the database costs no candle, and 500 are there from before."""
    stored = {(each.symbol, each.interval): each for each in await simulate_day()}
    minutes = stored["BTCUSDT", "1m"]
    assert minutes.closed == (minutes.last_open - minutes.first_open) // MINUTE_MS + 1 == 500 + 1439


async def test_a_broken_connection_is_replaced_by_itself(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """After an outage of the exchange klines flow again, and the break is in the log."""
    await trio.sleep(HOUR_S)
    with simulation.exchange.offline():
        await trio.sleep(10 * MINUTE_S)
        assert not any(info.is_active for info in simulation.agent.registry.listing())
    await trio.sleep(HOUR_S)
    assert all(info.is_active for info in simulation.agent.registry.listing())
    newest = (await simulation.store.final_klines("usdm", "BTCUSDT", "1m"))[-1]
    assert newest.close_time >= FEBRUARY_2026_MS + 2 * HOUR_MS


async def test_a_day_of_outage_does_not_flood_the_exchange(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dials back off to one in a quarter of a minute or so, and the first success ends that."""
    dials: list[float] = []
    dial = TwinNetwork.open_stream

    async def counting(network: TwinNetwork, url: httpx2.URL) -> trio.abc.Stream:
        dials.append(trio.current_time())
        return await dial(network, url)

    monkeypatch.setattr(TwinNetwork, "open_stream", counting)
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.D1]) as simulation:
        await trio.sleep(MINUTE_S)
        with simulation.exchange.offline():
            await trio.sleep(24 * HOUR_S)
        assert 24 * HOUR_S / 30 < len(dials) < 24 * HOUR_S / 10
        await trio.sleep(5 * MINUTE_S)
        assert simulation.agent.registry.listing()[0].is_active


async def test_a_symbol_with_a_chinese_name_is_recorded(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Names beyond ASCII travel through subscription, frames and store unharmed."""
    assert await simulation.agent.registry.add("币安人生USDT", Interval.M1)
    await trio.sleep(HOUR_S)
    assert len(await simulation.store.final_klines("usdm", "币安人生USDT", "1m")) >= 59


@pytest.mark.parametrize(
    ("venue", "symbol"), [(SPOT, "BTCUSDT"), (COINM, "BTCUSD_PERP")], ids=["spot", "coinm"]
)
async def test_the_other_venues_are_recorded(
    autojump_clock: MockClock, venue: Venue, symbol: str
) -> None:
    """Spot and COIN-M differ in routes, limits and names, and work alike."""
    async with open_simulation(venue=venue, symbols=[symbol]) as simulation:
        await trio.sleep(2 * HOUR_S)
    minutes = await simulation.store.final_klines(venue.name, symbol, "1m")
    assert len(minutes) >= 118
    assert _gaps(minutes, Interval.M1) == 0


async def test_hundreds_of_streams_share_few_connections_within_the_limits(
    autojump_clock: MockClock,
) -> None:
    """1,500 streams need two connections, one needs one; clients over a limit are cut off."""
    market = RandomMarket(symbols=100, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    symbols = [listing.symbol for listing in market.listings]
    intervals = sorted(Interval, key=lambda each: each.name)
    intervals.remove(Interval.S1)
    async with open_simulation(
        symbols=symbols[:100], intervals=intervals, market=market
    ) as simulation:
        registry, pool = simulation.agent.registry, simulation.agent.pool
        await trio.sleep(5)  # a second for the requests, the rest for the handshakes
        assert all(info.is_active for info in registry.listing())
        assert (registry.count(), len(pool.slots)) == (1500, 2)
        async with trio.open_nursery() as nursery:
            for info in registry.listing()[1:]:
                nursery.start_soon(simulation.agent.desired.remove, info.symbol, info.interval)
        await trio.sleep(5 * MINUTE_S)
        assert registry.count() == 1
        assert len(pool.slots) == 1
