"""Several venues in one agent: each records for itself, and all share what there is one of."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import ShuttingDown, SymbolLimitReached
from klineagent.core.interval import DAY_MS, Interval
from klineagent.exchange.venues import COINM, SPOT, USDM
from klineagent.series.statistics import SeriesStatistics
from klineagent.series.venues import RunningVenue
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import HOUR_S, MINUTE_S, Watch

M1 = Interval.M1
OTHERS_WEIGHT = 1_300
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


@pytest.mark.logs("limit_named", "symbols_unavailable")
@pytest.mark.parametrize("hurt", ["usdm", "spot"])
async def test_a_ban_and_delays_of_one_venue_do_not_touch_the_others(
    autojump_clock: MockClock, hurt: str
) -> None:
    """Its closing events come late and its REST refuses; others lose and heal as if alone."""
    async with open_simulation(
        symbols=SYMBOLS, intervals=[M1], beside=[SPOT, COINM], history=0
    ) as simulation:
        await trio.sleep(5 * MINUTE_S)
        watch, exchange = Watch(simulation), simulation.exchanges[hurt]
        other = simulation.exchanges["coinm"]
        with exchange.faults.refusing_rest(418), exchange.faults.delaying_closings(by_ms=20_000):
            await watch.look(5 * MINUTE_S)
            # A gap of the futures venue beside it, while the ban lasts.
            with other.faults.losing_closings():
                await watch.look(90)
            healed_at = trio.current_time()
            while venue(simulation, "coinm").registry.missing():
                await watch.look(1)
            assert trio.current_time() - healed_at <= 10
        late = {key: late_ms for key, late_ms in watch.late_ms.items() if key[0] != hurt}
        assert max(late_ms for key, late_ms in late.items() if key[0] != "coinm") <= 2_000
        await trio.sleep(10 * MINUTE_S)
        assert incomplete(simulation) == []


async def test_two_venues_that_heal_at_once_stay_within_their_pool(
    autojump_clock: MockClock,
) -> None:
    """80 % of what the exchange allows both together, minute by minute; spot has its own."""
    perpetual = ("BTCUSD_PERP", "ETHUSD_PERP", "SOLUSD_PERP")
    markets = {
        each.name: RandomMarket(
            symbols=3,
            seed=1,
            start_ms=FEBRUARY_2026_MS,
            venue_name=each.name,
            history_ms=20 * DAY_MS,
        )
        for each in (USDM, COINM)
    }
    async with open_simulation(
        symbols=[
            *("BTCUSDT", "ETHUSDT", "SOLUSDT"),
            *(f"coinm:{each}" for each in perpetual),
            "spot:BTCUSDT",
        ],
        intervals=[M1],
        beside=[SPOT, COINM],
        markets=markets,
        history=30_000,
    ) as simulation:
        futures, spot = (simulation.exchanges[each].rest.meter for each in ("coinm", "spot"))
        assert simulation.exchanges["usdm"].rest.meter is futures
        used, spent = [], set()
        for second in range(2 * 60):
            if second % 60 == 0:  # another program at our address
                futures.spend(OTHERS_WEIGHT, simulation.exchange.clock.now_ms())
            await trio.sleep(1)
            used.append(futures.used)
            spent |= {
                each.venue.name for each in simulation.agent.venues if each.registry.missing()
            }
        assert spent >= {"usdm", "coinm"}
        assert 0.78 * futures.limit < max(used) <= 0.8 * futures.limit
        assert spot.used <= 0.8 * spot.limit
        assert not any(each.breaches for each in simulation.exchanges.values())


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


async def test_a_caller_that_gives_up_does_not_end_the_opening(autojump_clock: MockClock) -> None:
    """At whichever step its deadline passes: the venue runs for those who ask next."""
    for passes in range(12):
        async with open_simulation(
            symbols=["BTCUSDT"], intervals=[M1], beside=[SPOT]
        ) as simulation:
            with trio.CancelScope() as caller:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(simulation.agent.venues.open, SPOT)
                    for _ in range(passes):
                        await trio.lowlevel.checkpoint()
                    caller.cancel(reason="the client has hung up")
            running = await simulation.agent.venues.open(SPOT)
            assert await running.desired.add("BTCUSDT", M1)


async def test_no_venue_is_opened_at_the_stop(autojump_clock: MockClock) -> None:
    """A command that comes so late is told why."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[M1], beside=[SPOT]) as simulation:
        venues = simulation.agent.venues
    with pytest.raises(ShuttingDown):
        await venues.open(SPOT)


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


async def test_configured_symbols_of_all_venues_have_the_first_claim_to_a_place(
    autojump_clock: MockClock,
) -> None:
    """Before symbols of a venue opened earlier that were added over HTTP."""
    state = MemoryDisk()
    saved = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    for symbols in ([], ["spot:BTCUSDT"]):
        async with open_simulation(
            symbols=symbols, intervals=[M1], beside=[SPOT], state=state, max_symbols=3
        ) as simulation:
            if not symbols:
                for symbol in saved:
                    assert await simulation.agent.desired.add(symbol, M1)
            await trio.sleep(MINUTE_S)
            kept = saved[: 3 - len(symbols)]
            assert simulation.agent.venues.symbols() == sorted([*kept, *symbols])
            assert [*simulation.agent.desired.refused] == saved[len(kept) :]


@pytest.mark.logs("symbols_unavailable")
async def test_a_default_venue_from_which_nothing_is_wanted_does_not_count(
    autojump_clock: MockClock,
) -> None:
    """An agent that records only another venue is ready without it."""
    async with open_simulation(
        symbols=["spot:BTCUSDT"], intervals=[M1], beside=[SPOT]
    ) as simulation:
        status = simulation.agent.status.test_client()
        with simulation.exchanges["usdm"].offline():
            await trio.sleep(5 * MINUTE_S)
            assert (await status.get("/ready")).status_code == 200
        with simulation.exchanges["spot"].offline():
            await trio.sleep(5 * MINUTE_S)
            answer = await status.get("/ready")
            assert answer.status_code == 503
            reasons = (await answer.get_json())["reasons"]
            assert {reason["venue"] for reason in reasons} == {"spot"}
