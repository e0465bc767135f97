"""Answers that are empty, short, old or shifted: nothing wrong is stored, nothing given up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.series.marks import Absence, Absent, Urgency
from klineagent.series.subscription import Subscription
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from tests.simulations.asking import Asker
from tests.simulations.looking import HOUR_S, MINUTE_S, closed, logged, not_stored, requests

OUTAGE_S = 15 * MINUTE_S
INTERVALS = (Interval.M1, Interval.M5)

Trouble = Callable[[Simulation], AbstractContextManager[None]]
TROUBLES: dict[str, Trouble] = {
    "empty": lambda s: s.exchange.lies.empty_klines(),
    "short": lambda s: s.exchange.lies.missing_klines(),
    "hanging": lambda s: s.exchange.faults.hanging_rest("/klines"),
    "frozen": lambda s: s.exchange.lies.frozen_klines(),
    "old": lambda s: s.exchange.faults.lagging_rest(15 * 60_000),
    "shifted": lambda s: s.exchange.lies.off_grid_klines(),
    "odd": lambda s: s.exchange.lies.odd_rows(),
}


def _market(venue: Venue) -> EventfulMarket:
    return EventfulMarket(
        RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name=venue.name)
    )


def _series(simulation: Simulation, symbol: str) -> Subscription:
    (series,) = (
        each for each in simulation.agent.registry.subscriptions() if each.symbol == symbol
    )
    return series


def _check_values(simulation: Simulation, market: EventfulMarket) -> None:
    """Every closed row of the store is what was traded."""
    aggregator = Aggregator(market)
    for kline in simulation.store.klines.values():
        if kline.is_closed:
            interval = TwinInterval(kline.interval)
            truth = aggregator.whole(kline.symbol, interval, kline.open_time)
            assert truth is not None
            assert kline.trades == truth.trades
            assert kline.close_time == Interval(kline.interval).close_of(kline.open_time)


@pytest.mark.parametrize("venue", [USDM, SPOT], ids=["usdm", "spot"])
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_klines_that_are_not_shown_are_missing_and_come(
    autojump_clock: MockClock, venue: Venue, trouble: str
) -> None:
    """For a quarter of an hour, while only klines and closing events fail."""
    market = _market(venue)
    async with open_simulation(
        venue=venue, market=market, intervals=INTERVALS, history=0
    ) as simulation:
        await trio.sleep(30.5 * MINUTE_S)
        with simulation.exchange.faults.losing_closings(), TROUBLES[trouble](simulation):
            for _ in range(15):
                await trio.sleep(MINUTE_S)
                for each in simulation.agent.registry.subscriptions():
                    assert not each.ledger.absences
        await trio.sleep(2.5 * MINUTE_S)
        assert simulation.agent.registry.missing() == 0
        assert not_stored(simulation) == []
        _check_values(simulation, market)
        assert not simulation.exchange.breaches


@pytest.mark.parametrize("venue", [USDM, SPOT], ids=["usdm", "spot"])
async def test_history_with_empty_answers_is_requested_until_it_comes(
    autojump_clock: MockClock, venue: Venue
) -> None:
    """Several pages of history, seconds after the exchange has recovered."""
    market = _market(venue)
    async with open_simulation(
        venue=venue, market=market, intervals=[Interval.M1], history=1400
    ) as simulation:
        with simulation.exchange.lies.empty_klines():
            await trio.sleep(MINUTE_S)
            assert _series(simulation, "BTCUSDT").ledger.missing >= 1399
        await trio.sleep(MINUTE_S)
        assert simulation.agent.registry.missing() == 0
        assert not_stored(simulation, since_ms=FEBRUARY_2026_MS - 1400 * MINUTE_MS) == []


async def test_candles_of_a_halt_on_spot_are_missing_until_trading_goes_on(
    autojump_clock: MockClock,
) -> None:
    """No alert fires meanwhile; two answers with later candles prove that there were none."""
    market = _market(SPOT)
    async with open_simulation(
        venue=SPOT, market=market, intervals=[Interval.M1], history=0
    ) as simulation:
        asker = Asker(simulation.agent, simulation.store)
        await trio.sleep(HOUR_S)
        ledger = _series(simulation, "ETHUSDT").ledger
        before = requests(simulation)
        with market.halting(["ETHUSDT"]):
            for _ in range(5):
                await trio.sleep(HOUR_S)
                assert await asker.ready() == []
                assert not ledger.absences
            assert ledger.missing >= 298
            why = await asker.why("ETHUSDT", Interval.M1, FEBRUARY_2026_MS + 2 * HOUR_MS)
            assert why["state"] == "missing"
            assert "not proven yet" in why["search"]["error"]
        # One request for each candle that falls due, and one a minute, later less often.
        assert requests(simulation) - before < 2 * 300 + 20
        await trio.sleep(10 * MINUTE_S)
        assert ledger.missing == 0
        assert [each.mark.reason for each in ledger.absences] == [Absent.NO_CANDLE]
        assert await asker.ready() == []


async def test_a_restart_in_a_halt_ends_like_no_restart(autojump_clock: MockClock) -> None:
    """The next run looks again for what is not proven."""
    market, store = _market(SPOT), MemoryStore()
    settings: dict[str, Any] = {"venue": SPOT, "market": market, "intervals": [Interval.M1]}
    async with open_simulation(store=store, history=0, **settings) as simulation:
        await trio.sleep(HOUR_S)
        halt = market.halting(["ETHUSDT"])
        halt.__enter__()
        await trio.sleep(HOUR_S)
        halted_ms = simulation.exchange.clock.now_ms() - HOUR_MS
        halt.__exit__(None, None, None)
        await trio.sleep(MINUTE_S)
        assert _series(simulation, "ETHUSDT").ledger.missing > 55
    async with open_simulation(store=store, history=180, **settings) as simulation:
        await trio.sleep(10 * MINUTE_S)
        stored = {kline.open_time for kline in closed(store, "ETHUSDT", Interval.M1)}
        assert not [at for at in stored if halted_ms + 2 * MINUTE_MS < at < halted_ms + HOUR_MS]
        assert simulation.agent.registry.missing() == 0


async def test_an_absence_is_looked_at_again_after_an_hour_and_a_day(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Candles that the exchange then has are fetched and logged; the others cost two requests."""
    market = _market(SPOT)
    async with open_simulation(
        venue=SPOT, market=market, intervals=[Interval.M1], history=0, symbols=["ETHUSDT"]
    ) as simulation:
        await trio.sleep(10.5 * MINUTE_S)
        with market.halting(["ETHUSDT"]):
            await trio.sleep(30 * MINUTE_S)
        await trio.sleep(10 * MINUTE_S)
        ledger = _series(simulation, "ETHUSDT").ledger
        (halt,) = ledger.absences
        wrong_ms = FEBRUARY_2026_MS + 5 * MINUTE_MS
        del simulation.store.klines["spot", "ETHUSDT", "1m", wrong_ms]
        ledger.reopen(wrong_ms, now_ms=0)
        proven = Absence.proven(Absent.NO_CANDLE, simulation.exchange.clock.now_ms())
        ledger.give_up(wrong_ms, wrong_ms + MINUTE_MS, proven)
        before = requests(simulation)
        await trio.sleep(2 * HOUR_S)
        assert ledger.missing == 0
        assert ("spot", "ETHUSDT", "1m", wrong_ms) in simulation.store.klines
        assert [line["count"] for line in logged(caplog, "absences_disproved")] == [1]
        figures = await Asker(simulation.agent, simulation.store).figures()
        assert figures("absences_disproved_total") == 1
        assert [(each[0], each[1], each.mark.looks) for each in ledger.absences] == [
            (halt.first_ms, halt.end_ms, 1)
        ]
        await trio.sleep(26 * HOUR_S)
        assert [(each.mark.looks, each.mark.look_again_ms) for each in ledger.absences] == [
            (2, None)
        ]
        assert requests(simulation) - before <= 2


async def test_candles_off_the_grid_are_stored_as_they_are(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As in 2018: for some hours they open late, the first one is cut short."""

    def late(rows: list[Any], query: Any) -> list[Any]:
        return [
            [row[0] + 14_789, *row[1:6], row[6] + 14_789, *row[7:]]
            if FEBRUARY_2026_MS - 2 * HOUR_MS <= row[0] < FEBRUARY_2026_MS - HOUR_MS
            else row
            for row in rows
        ]

    market = _market(USDM)
    async with open_simulation(
        market=market, intervals=[Interval.M1], history=300, symbols=["ETHUSDT"]
    ) as simulation:
        asker = Asker(simulation.agent, simulation.store)
        with simulation.exchange.faults.lying("/klines", late):
            await trio.sleep(MINUTE_S)
            ledger = _series(simulation, "ETHUSDT").ledger
            assert ledger.missing == 0
            assert [(each.mark.reason, ledger.count([each])) for each in ledger.absences] == [
                (Absent.OFF_GRID, 60)
            ]
            minutes = closed(simulation.store, "ETHUSDT", Interval.M1)
            odd = [each for each in minutes if each.open_time % MINUTE_MS]
            assert len(odd) == 60
            assert {each.close_time - each.open_time for each in odd} == {MINUTE_MS - 1}
            why = await asker.why("ETHUSDT", Interval.M1, FEBRUARY_2026_MS - 2 * HOUR_MS)
            assert "off the grid" in why["explanation"]
            (line,) = logged(caplog, "candles_off_grid")
            assert line["newest"] == "ethusdt@kline_1m"
            await trio.sleep(2 * HOUR_S)
            assert ledger.tally.disproved == 0
            assert ledger.missing == 0


async def test_a_range_before_the_first_candle_costs_little_and_holds_up_nothing(
    autojump_clock: MockClock,
) -> None:
    """On futures it stays missing; it is history, so the agent is ready, and others come first."""
    market = _market(USDM)

    def listed_late(rows: list[Any], query: Any) -> list[Any]:
        return [row for row in rows if row[0] >= FEBRUARY_2026_MS - HOUR_MS]

    async with open_simulation(
        market=market, intervals=[Interval.M1], history=1400, symbols=["ETHUSDT"]
    ) as simulation:
        asker = Asker(simulation.agent, simulation.store)
        with simulation.exchange.faults.lying("/klines", listed_late):
            await trio.sleep(10 * MINUTE_S)
            ledger = _series(simulation, "ETHUSDT").ledger
            assert ledger.missing == 1400 - 60
            assert {gap.mark.urgency for gap in ledger.gaps} == {Urgency.HISTORY}
            assert await asker.ready() == []
            before = requests(simulation)
            await trio.sleep(DAY_MS / 1000)
            assert requests(simulation) - before < 130
        await trio.sleep(2 * HOUR_S)
        assert ledger.missing == 0
