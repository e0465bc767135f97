"""The whole agent on a virtual clock, against the exchange twin over memory streams."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from examples.simulated_day import simulate_day
from klineagent.errors import InvalidRequest, NotConfirmed
from klineagent.kline import DAY_MS, HOUR_MS, MINUTE_MS, Interval, Kline
from klineagent.market.venues import COINM, SPOT, Venue
from klineagent.sim.random_market import RandomMarket
from klineagent.simulation import FEBRUARY_2026_MS, Simulation, open_simulation

HOUR_S = 3600.0
MINUTE_S = 60.0


def _holes(klines: list[Kline], interval: Interval) -> int:
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
        assert _holes(klines, interval) == 0
    assert len(await simulation.store.summary()) == 9


async def test_higher_intervals_are_what_their_minutes_make(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The hour's candle agrees with the sixty that it spans."""
    await trio.sleep(3 * HOUR_S)
    minutes = await simulation.store.final_klines("usdm", "BTCUSDT", "1m")
    # The first hour closed before it could be seen whole.
    for hour in (await simulation.store.final_klines("usdm", "BTCUSDT", "1h"))[1:]:
        inside = [m for m in minutes if hour.open_time <= m.open_time <= hour.close_time]
        assert len(inside) == 60
        assert hour.open == inside[0].open
        assert hour.close == inside[-1].close
        assert hour.high == max(m.high for m in inside)
        assert hour.trades == sum(m.trades for m in inside)
        assert hour.volume == pytest.approx(sum(m.volume for m in inside), rel=1e-12)


async def test_the_examples_day_has_no_hole(autojump_clock: MockClock) -> None:
    """An hour without the database costs no candle."""
    stored = {(each.symbol, each.interval): each for each in await simulate_day()}
    minutes = stored["BTCUSDT", "1m"]
    assert minutes.closed == (minutes.last_open - minutes.first_open) // MINUTE_MS + 1 == 1440


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


async def test_a_week_of_outage_does_not_storm_the_exchange(autojump_clock: MockClock) -> None:
    """Dials back off to one in half a minute or so, and the first success ends that."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.D1]) as simulation:
        await trio.sleep(MINUTE_S)
        with simulation.exchange.offline():
            await trio.sleep(24 * HOUR_S)
        await trio.sleep(5 * MINUTE_S)
        assert simulation.agent.registry.listing()[0].is_active


async def test_adding_waits_for_the_exchange_and_leaves_nothing_behind(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """An add that is not confirmed in time is as if it had never been asked for."""
    registry = simulation.agent.registry
    with simulation.exchange.offline(), pytest.raises(trio.TooSlowError), trio.fail_after(29):
        await registry.add("SOLUSDT", Interval.M15)
    assert registry.count() == 9
    assert await registry.add("SOLUSDT", Interval.M15)
    assert not await registry.add("SOLUSDT", Interval.M15)
    assert registry.count() == 10


async def test_two_who_add_the_same_share_its_fate(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The second waits for the first; it runs already, or it failed for both."""
    registry = simulation.agent.registry
    outcomes: list[object] = []

    async def add(within_s: float) -> None:
        try:
            with trio.fail_after(within_s):
                outcomes.append(await registry.add("SOLUSDT", Interval.M15))
        except (trio.TooSlowError, NotConfirmed) as error:
            outcomes.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, 5)
        nursery.start_soon(add, 5)
    assert sorted(map(str, outcomes)) == ["False", "True"]
    await registry.remove("SOLUSDT", Interval.M15)
    outcomes.clear()
    with simulation.exchange.offline():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, 5)
            await wait_all_tasks_blocked()
            nursery.start_soon(add, 10)
    assert set(outcomes) == {trio.TooSlowError, NotConfirmed}


async def test_symbols_that_do_not_trade_are_refused(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The exchange would acknowledge them and stay silent, so they are checked first."""
    registry = simulation.agent.registry
    for symbol, reason in [("NOSUCHUSDT", "does not exist"), ("OMGUSDT", "does not trade")]:
        with pytest.raises(InvalidRequest, match=reason):
            await registry.add(symbol, Interval.M1)
    assert registry.count() == 9


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
    assert _holes(minutes, Interval.M1) == 0


async def test_hundreds_of_streams_share_few_feeds_within_the_limits(
    autojump_clock: MockClock,
) -> None:
    """1,500 streams need two connections, one needs one; who breaks a limit is cut off."""
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
        assert (registry.count(), pool.feed_count) == (1500, 2)
        async with trio.open_nursery() as nursery:
            for info in registry.listing()[1:]:
                nursery.start_soon(registry.remove, info.symbol, info.interval)
        await trio.sleep(5 * MINUTE_S)
        assert registry.count() == 1
        assert pool.feed_count == 1
