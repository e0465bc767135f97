"""Outages of the exchange and of the database, and symbols that are listed, delisted and halted."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.series.marks import Absent
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    closed,
    logged,
    not_stored,
    requests,
)

SEVEN = (
    Interval.M1,
    Interval.M3,
    Interval.M5,
    Interval.M15,
    Interval.M30,
    Interval.H1,
    Interval.H4,
)


def _eventful(venue: Venue = USDM, *, unlisted: tuple[str, ...] = ()) -> EventfulMarket:
    market = RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name=venue.name)
    return EventfulMarket(market, unlisted=unlisted)


async def healed_after(symbols: int, *, outage_s: float) -> float:
    """How long it takes, with that many symbols, until nothing is missing after an outage."""
    market = RandomMarket(symbols=symbols, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    names = [listing.symbol for listing in market.listings][:symbols]
    async with open_simulation(
        symbols=names,
        intervals=SEVEN,
        market=market,
        max_symbols=symbols,
        history=0,
        tick_ms=30 * MINUTE_MS,
    ) as simulation:
        registry = simulation.agent.registry
        await trio.sleep(2 * MINUTE_S)
        assert all(info.is_active for info in registry.listing())
        with simulation.exchange.offline():
            await trio.sleep(outage_s)
        back_at = trio.current_time()
        with trio.fail_after(HOUR_S):
            while registry.missing() or not all(  # noqa: ASYNC110 - there is no event
                info.is_active for info in registry.listing()
            ):
                await trio.sleep(1)
        seconds = trio.current_time() - back_at
        await trio.sleep(MINUTE_S)
        assert not_stored(simulation) == []
        assert registry.missing() == 0
        # A 429 would be one; so would be a request too many on a socket.
        assert not simulation.exchange.breaches
    return seconds


async def test_ten_minutes_without_the_exchange_are_healed_in_less(
    autojump_clock: MockClock,
) -> None:
    """4200 series of 600 symbols are requested within the limits, in about a minute."""
    assert await healed_after(600, outage_s=10 * MINUTE_S) < 10 * MINUTE_S


async def test_a_day_without_the_database_costs_no_candle(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Closed candles wait on disk, and none has to be fetched again."""
    async with open_simulation(
        symbols=["BTCUSDT", "ETHUSDT"], history=0, disk=MemoryDisk(), tick_ms=5 * MINUTE_MS
    ) as simulation:
        await trio.sleep(HOUR_S)
        before = requests(simulation)
        with simulation.store.offline():
            await trio.sleep(DAY_S)
            assert simulation.agent.writer.rows_waiting < 100
        await trio.sleep(5 * MINUTE_S)
        spool = simulation.agent.writer.spool
        assert spool is not None
        assert spool.is_empty
        assert not_stored(simulation) == []
        assert requests(simulation) == before
    assert logged(caplog, "rows_dropped") == []


async def _compare_with_market(simulation: Simulation, market: EventfulMarket, symbol: str) -> int:
    """Check that the stored minutes are the traded ones; return how many were not traded."""
    now_ms = simulation.exchange.clock.now_ms()
    # The minute before the first may have closed late enough to be recorded.
    stored = {kline.open_time for kline in closed(simulation.store, symbol, Interval.M1)}
    stored.discard(FEBRUARY_2026_MS - MINUTE_MS)
    opens = range(FEBRUARY_2026_MS, Interval.M1.open_at(now_ms - MINUTE_MS), MINUTE_MS)
    traded = {open_ms for open_ms in opens if market.minute(symbol, open_ms) is not None}
    assert stored == traded
    await trio.lowlevel.checkpoint()
    return len(opens) - len(traded)


async def test_a_delisted_symbol_is_known_to_be_absent_until_it_is_listed_again(
    autojump_clock: MockClock,
) -> None:
    """Candles that do not exist are not requested forever; other series go on."""
    market = _eventful()
    async with open_simulation(market=market, intervals=[Interval.M1], history=0) as simulation:
        await trio.sleep(HOUR_S)
        before = requests(simulation)
        market.delist("ETHUSDT")
        await trio.sleep(6 * HOUR_S)
        delisted = simulation.agent.registry.subscriptions()[1]
        assert delisted.symbol == "ETHUSDT"
        assert {each.mark.reason for each in delisted.ledger.absences} <= set(Absent)
        assert delisted.ledger.absences
        # Each candle is requested until its absence is proven, less and less often.
        assert requests(simulation) - before < 6 * 60 * 7
        market.list("ETHUSDT")
        await trio.sleep(HOUR_S)
        assert await _compare_with_market(simulation, market, "ETHUSDT") == 6 * 60
        assert await _compare_with_market(simulation, market, "BTCUSDT") == 0
        assert simulation.agent.registry.missing() == 0


@pytest.mark.parametrize("venue", [USDM, SPOT], ids=["usdm", "spot"])
async def test_a_new_listing_is_recorded_from_its_first_minute(
    autojump_clock: MockClock, venue: Venue
) -> None:
    """It is configured before it trades; its first candles are fetched."""
    market = _eventful(venue, unlisted=("ETHUSDT",))
    async with open_simulation(
        venue=venue, market=market, intervals=[Interval.M1], history=500
    ) as simulation:
        await trio.sleep(2 * HOUR_S)
        assert closed(simulation.store, "ETHUSDT", Interval.M1) == []
        market.list("ETHUSDT")
        await trio.sleep(HOUR_S)
        assert await _compare_with_market(simulation, market, "ETHUSDT") == 2 * 60 + 1
        assert simulation.agent.registry.missing() == 0


@pytest.mark.parametrize(("venue", "flat"), [(USDM, True), (SPOT, False)])
async def test_a_halt_leaves_nothing_missing(
    autojump_clock: MockClock, *, venue: Venue, flat: bool
) -> None:
    """Candles without trades are stored; others are confirmed absent."""
    market = _eventful(venue)
    async with open_simulation(
        venue=venue, market=market, intervals=[Interval.M1], history=0
    ) as simulation:
        await trio.sleep(HOUR_S)
        with market.halting(["ETHUSDT"], flat=flat):
            await trio.sleep(2 * HOUR_S)
        await trio.sleep(HOUR_S)
        absent = await _compare_with_market(simulation, market, "ETHUSDT")
        assert absent == (0 if flat else 2 * 60)
        ledger = simulation.agent.registry.subscriptions()[1].ledger
        assert sum((each.end_ms - each.first_ms) // MINUTE_MS for each in ledger.absences) == absent
        assert simulation.agent.registry.missing() == 0
        assert not simulation.exchange.breaches
