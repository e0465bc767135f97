"""The exchange reports a wrong time, in one way or another: nothing closes early or is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.clock.reckoning import BOUND_MS
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.wire import StreamEvent
from tests.simulations.looking import HOUR_S, MINUTE_S, closed, logged, not_stored

LONG = (Interval.M1, Interval.H1, Interval.D1, Interval.MO1)


def _clock_error_ms(simulation: Simulation) -> float:
    return simulation.agent.registry.context.time.now_ms() - simulation.exchange.clock.now_ms()


async def _assert_truth(simulation: Simulation) -> None:
    """Every minute that has closed is stored as it was traded, and none that has not."""
    await trio.sleep(2 * MINUTE_S)
    assert not_stored(simulation) == []
    assert simulation.agent.registry.missing() == 0
    now_ms = simulation.exchange.clock.now_ms()
    for each in simulation.agent.registry.subscriptions():
        assert each.ledger.horizon_ms <= now_ms
        assert each.ledger.absent == 0
    for kline in closed(simulation.store, "BTCUSDT", Interval.M1):
        assert kline.close_time < now_ms
        traded = simulation.exchange.market.minute("BTCUSDT", kline.open_time)
        assert traded is not None
        assert kline.trades == traded.trades


@pytest.mark.parametrize("ahead_ms", [20 * DAY_MS, DAY_MS, MINUTE_MS, 2 * SECOND_MS, -DAY_MS])
async def test_one_event_with_a_wrong_time_moves_nothing(
    autojump_clock: MockClock, ahead_ms: int
) -> None:
    """An event of a monthly candle may come at any time of it; later lost events fall due."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=LONG, history=0) as simulation:
        exchange = simulation.exchange
        await trio.sleep(10 * MINUTE_S + 20)
        now_ms = exchange.clock.now_ms()
        event = exchange._event_source.peek("btcusdt@kline_1M", now_ms)
        assert event is not None
        payload = json.loads(event.payload) | {"E": now_ms + ahead_ms}
        exchange.connections.broadcast(
            StreamEvent("btcusdt@kline_1M", json.dumps(payload).encode(), now_ms)
        )
        await trio.sleep(1)
        assert abs(_clock_error_ms(simulation)) <= BOUND_MS
        await trio.sleep(MINUTE_S)
        assert abs(_clock_error_ms(simulation)) <= SECOND_MS
        with exchange.faults.losing_closings():
            await trio.sleep(HOUR_S)
        await _assert_truth(simulation)


async def test_an_hour_of_lies_closes_nothing_early(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong are events, `/time`, or both, and no two agree."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=LONG, history=0) as simulation:
        lies, faults = simulation.exchange.lies, simulation.exchange.faults
        for blocks in (
            [lies.wrong_times(0.5)],
            [lies.wrong_server_time()],
            [lies.wrong_times(0.3), lies.wrong_server_time(0.5), faults.losing_closings(0.5)],
        ):
            with ExitStack() as stack:
                for block in blocks:
                    stack.enter_context(block)
                for _ in range(60):
                    await trio.sleep(MINUTE_S)
                    assert abs(_clock_error_ms(simulation)) <= BOUND_MS
        await _assert_truth(simulation)
        assert simulation.agent.registry.context.time.reckoning.steps == 0
        # A line a minute at most.
        assert 1 <= len(logged(caplog, "event_time_refuted")) <= 3 * 60 + 2


async def test_an_agent_that_starts_amid_wrong_times_knows_the_time_once_two_reports_agree(
    autojump_clock: MockClock,
) -> None:
    """Half of the answers are in microseconds, null, or days off."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=LONG, history=5) as simulation:
        with simulation.exchange.lies.wrong_server_time(0.5):
            with trio.fail_after(MINUTE_S):
                await simulation.agent.registry.context.time.known()
            assert abs(_clock_error_ms(simulation)) <= SECOND_MS
            await trio.sleep(HOUR_S)
        await _assert_truth(simulation)


@contextmanager
def _lying_about_time(simulation: Simulation, by_ms: int) -> Iterator[None]:
    def lie(answer: dict[str, Any], _query: object) -> dict[str, Any]:
        return {"serverTime": answer["serverTime"] + by_ms}

    with simulation.exchange.faults.lying("/time", lie):
        yield


@pytest.mark.parametrize("ahead_ms", [DAY_MS, -DAY_MS])
async def test_a_clock_that_two_reports_have_set_wrong_is_set_right(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, ahead_ms: int
) -> None:
    """Every answer is wrong alike for a while; candles marked too early fall due again."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=LONG, history=0) as simulation:
        await trio.sleep(10 * MINUTE_S)
        registry = simulation.agent.registry
        with _lying_about_time(simulation, ahead_ms):
            with simulation.exchange.faults.stalling():
                await trio.sleep(5 * MINUTE_S)
            assert _clock_error_ms(simulation) == pytest.approx(ahead_ms, abs=BOUND_MS)
            for each in registry.subscriptions():
                each.audited_ms = registry.context.time.now_ms()  # as the audit does
        with simulation.exchange.faults.losing_closings():
            await trio.sleep(2 * MINUTE_S)
            for each in registry.subscriptions():
                assert each.audited_ms is not None
                assert each.audited_ms <= registry.context.time.now_ms()
            await trio.sleep(13 * MINUTE_S)
            assert abs(_clock_error_ms(simulation)) <= SECOND_MS
            assert registry.missing() == 0
            await trio.sleep(HOUR_S)
        await _assert_truth(simulation)
        assert registry.context.time.reckoning.steps == 2
        assert logged(caplog, "clock_set")
        assert registry.subscription("BTCUSDT", Interval.M1) is not None
        assert min(each.ledger.first_ms for each in registry.subscriptions()) <= FEBRUARY_2026_MS
