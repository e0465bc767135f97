"""Several venues in one agent: each records for itself, and all share what there is one of."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import SymbolLimitReached
from klineagent.core.interval import Interval
from klineagent.exchange.venues import COINM, SPOT, USDM
from klineagent.series.statistics import SeriesStatistics
from klineagent.series.venues import RunningVenue
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import Simulation, open_simulation
from tests.simulations.looking import HOUR_S, MINUTE_S, Watch

M1 = Interval.M1
SYMBOLS = ("BTCUSDT", "spot:BTCUSDT", "coinm:BTCUSD_PERP")


def venue(simulation: Simulation, name: str) -> RunningVenue:
    """The running venue of that name."""
    running = simulation.agent.venues.get(name)
    assert running is not None
    return running


def incomplete(simulation: Simulation) -> list[str]:
    """The series that are not carried, miss candles, or closed candles that are not stored."""
    found = []
    for running in simulation.agent.venues:
        now_ms = running.context.time.now_ms()
        for each in running.registry.subscriptions():
            ledger = each.ledger
            stored = sum(
                row.is_closed and ledger.first_ms <= row.open_time < ledger.horizon_ms
                for key, row in simulation.store.klines.items()
                if key[:3] == (running.venue.name, each.symbol, each.interval.value)
            )
            is_whole = ledger.has_begun and stored == SeriesStatistics.of(ledger, now_ms).closed
            if not (each.is_active and is_whole and not ledger.missing):
                found.append(f"{running.venue.name} {each.stream_name}")
    return found


async def test_each_venue_records_its_own_candles(autojump_clock: MockClock) -> None:
    """Equal symbols of two venues are two series, in one table."""
    async with open_simulation(symbols=SYMBOLS, intervals=[M1], beside=[SPOT, COINM]) as simulation:
        await trio.sleep(HOUR_S + 10)
        assert [each.venue for each in simulation.agent.venues] == [USDM, SPOT, COINM]
        assert incomplete(simulation) == []
        venues = {row.venue for row in simulation.store.klines.values()}
        assert venues == {"usdm", "spot", "coinm"}
        assert simulation.agent.venues.symbols() == sorted(SYMBOLS)
        assert not any(each.breaches for each in simulation.exchanges.values())


@pytest.mark.logs("symbols_unavailable")
@pytest.mark.parametrize("down", ["usdm", "spot", "coinm"])
async def test_an_outage_of_one_venue_does_not_touch_the_others(
    autojump_clock: MockClock, down: str
) -> None:
    """Their candles are stored as soon as ever; afterwards nothing is missing anywhere."""
    async with open_simulation(
        symbols=SYMBOLS, intervals=[M1], beside=[SPOT, COINM], history=0
    ) as simulation:
        await trio.sleep(5 * MINUTE_S)
        watch = Watch(simulation)
        with simulation.exchanges[down].offline():
            await watch.look(10 * MINUTE_S)
        others = {key: late_ms for key, late_ms in watch.late_ms.items() if key[0] != down}
        assert len(others) >= 2 * 9
        assert max(others.values()) <= 2_000
        await trio.sleep(5 * MINUTE_S)
        assert incomplete(simulation) == []


async def test_a_venue_is_opened_when_it_is_wanted(autojump_clock: MockClock) -> None:
    """And once: two that want it at a time get the same one."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[M1], beside=[SPOT]) as simulation:
        venues = simulation.agent.venues
        assert [each.venue.name for each in venues] == ["usdm"]
        assert not simulation.exchanges["spot"].rest.meter.used
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(venues.open, SPOT)
        assert [each.venue.name for each in venues] == ["usdm", "spot"]
        assert await venue(simulation, "spot").desired.add("BTCUSDT", M1)
        await trio.sleep(2 * MINUTE_S)
        assert incomplete(simulation) == []
        assert venues.count() == 2


async def test_what_every_venue_should_record_survives_a_restart(
    autojump_clock: MockClock,
) -> None:
    """In one file; a venue from which nothing is wanted any more is not opened."""
    state = MemoryDisk()
    for wanted in (["usdm", "spot", "coinm"], ["usdm", "spot"]):
        async with open_simulation(
            symbols=[], intervals=[M1], beside=[SPOT, COINM], state=state
        ) as simulation:
            for each, symbol in ((SPOT, "BTCUSDT"), (COINM, "BTCUSD_PERP")):
                running = simulation.agent.venues.get(each.name)
                if running is None and each.name in wanted:
                    running = await simulation.agent.venues.open(each)
                    assert await running.desired.add(symbol, M1)
            await trio.sleep(MINUTE_S)
            assert [each.venue.name for each in simulation.agent.venues] == wanted
            assert incomplete(simulation) == []
            if "coinm" in wanted:
                await venue(simulation, "coinm").desired.remove("BTCUSD_PERP", M1)


async def test_symbols_of_all_venues_count_together(autojump_clock: MockClock) -> None:
    """A place that one venue leaves goes to a symbol that another had to refuse."""
    async with open_simulation(
        symbols=["BTCUSDT", "spot:BTCUSDT"], intervals=[M1], beside=[SPOT], max_symbols=2
    ) as simulation:
        await trio.sleep(MINUTE_S)
        spot, usdm = venue(simulation, "spot").desired, simulation.agent.desired
        with pytest.raises(SymbolLimitReached, match="the 2 symbols allowed"):
            await spot.add("ETHUSDT", M1)
        # The configuration names it, so that only an exclusion gives its place up.
        await usdm.remove("BTCUSDT", M1)
        assert await spot.add("ETHUSDT", M1)
        assert spot.registry.symbols() == ["BTCUSDT", "ETHUSDT"]
