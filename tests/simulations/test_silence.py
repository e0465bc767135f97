"""Acknowledged streams without events: each candle is missed in time, and fetched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import SECOND_MS, Interval
from klineagent.testing.simulation import open_simulation
from klineagent.twin.faults.faults import ExchangeFaults
from tests.simulations.looking import MINUTE_S, Watch, logged, not_stored

GRACE_MS = 5 * SECOND_MS
FETCHED_WITHIN_MS = 10 * SECOND_MS
INTERVALS = (Interval.M1, Interval.M3, Interval.M5)


def _silent(faults: ExchangeFaults) -> AbstractContextManager[None]:
    """Streams of new connections deliver nothing, and all connections are replaced."""
    faults.reset_connections()
    return faults.silent_acks(1.0)


def _stalled(faults: ExchangeFaults) -> AbstractContextManager[None]:
    """Sockets stay open, and no data comes."""
    return faults.stalling(1.0)


def _closing_silently(faults: ExchangeFaults) -> AbstractContextManager[None]:
    """Growing updates come, closing events do not."""
    return faults.losing_closings(1.0)


@pytest.mark.parametrize("fault", [_silent, _stalled, _closing_silently])
async def test_each_candle_that_is_not_delivered_is_stored_in_time(
    autojump_clock: MockClock, fault: Callable[[ExchangeFaults], AbstractContextManager[None]]
) -> None:
    """It is missed five seconds after its close, and stored within ten more."""
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        watch = Watch(simulation)
        await trio.sleep(2.5 * MINUTE_S)
        with fault(simulation.exchange.faults):
            await watch.look(30 * MINUTE_S)
        assert len(watch.late_ms) == 3 * (30 + 10 + 6)
        early = {key: ms for key, ms in watch.late_ms.items() if ms < GRACE_MS}
        late = {key: ms for key, ms in watch.late_ms.items() if ms > GRACE_MS + FETCHED_WITHIN_MS}
        assert early == {}
        assert late == {}
        await trio.sleep(5 * MINUTE_S)
        assert not_stored(simulation) == []
        assert simulation.agent.registry.missing() == 0
        assert not simulation.exchange.breaches


async def test_a_connection_on_which_many_deadlines_pass_is_replaced(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It never delivers what it acknowledged; the next one does, and nothing is missed."""
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        counts = simulation.agent.registry.context.counts
        await trio.sleep(2.5 * MINUTE_S)
        with _silent(simulation.exchange.faults):
            await trio.sleep(10)
        assert all(info.is_active for info in simulation.agent.registry.listing())
        await trio.sleep(3 * MINUTE_S)
        assert "not delivered" in str(logged(caplog, "feed_replaced")[0]["reason"])
        missed = counts.missed
        assert missed >= 3
        await trio.sleep(30 * MINUTE_S)
        assert counts.missed == missed
        assert not_stored(simulation) == []
    assert len(logged(caplog, "feed_replaced")) == 1


async def test_connections_that_are_no_better_are_replaced_less_and_less_often(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If every connection is silent, the next one gets twice the time of the last."""
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        await trio.sleep(2.5 * MINUTE_S)
        with _silent(simulation.exchange.faults):
            await trio.sleep(120 * MINUTE_S)
            assert 3 <= len(logged(caplog, "feed_replaced")) <= 12
        await trio.sleep(90 * MINUTE_S)
        assert not_stored(simulation) == []
