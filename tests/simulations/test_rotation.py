"""Connections are replaced before their end, without any effect on streams."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT, USDM, Venue
from klineagent.testing.simulation import Simulation, open_simulation
from tests.simulations.looking import DAY_S, HOUR_S, MINUTE_S, logged, not_stored, requests


def _losses(simulation: Simulation) -> int:
    """Count how often a stream was not carried by any connection."""
    streams = [each._stream for each in simulation.agent.registry.subscriptions()]
    return sum(stream.losses for stream in streams if stream is not None)


@pytest.mark.parametrize(("venue", "days"), [(USDM, 7), (SPOT, 1)], ids=["usdm", "spot"])
async def test_days_pass_without_a_gap_and_without_a_request(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, venue: Venue, days: int
) -> None:
    """Every connection is replaced before the old one is closed; spot pings every 20 s."""
    async with open_simulation(
        venue=venue,
        symbols=["BTCUSDT"],
        intervals=[Interval.M5, Interval.H1],
        tick_ms=30 * MINUTE_MS,
        history=0,
    ) as simulation:
        await trio.sleep(MINUTE_S)
        at_the_start = requests(simulation)
        await trio.sleep(days * DAY_S)
        assert all(info.is_active for info in simulation.agent.registry.listing())
        assert not_stored(simulation) == []
        assert requests(simulation) == at_the_start
        assert _losses(simulation) == 0
        assert not simulation.exchange.breaches
    assert len(logged(caplog, "feed_replaced")) >= days
    assert logged(caplog, "feed_lost") == []


@pytest.mark.parametrize("shape", ["wire", "sdk"])
async def test_a_shutdown_notice_is_followed_at_once(
    autojump_clock: MockClock,
    simulation: Simulation,
    caplog: pytest.LogCaptureFixture,
    shape: Literal["wire", "sdk"],
) -> None:
    """Another connection takes over while the old one still delivers."""
    lines = simulation.exchange.connections.clients
    await trio.sleep(HOUR_S)
    at_the_start, old = requests(simulation), set(lines)
    simulation.exchange.faults.announce_shutdown(shape)
    await trio.sleep(1)
    assert len(lines) == 2
    assert old < set(lines)
    await trio.sleep(2 * MINUTE_S)
    assert len(lines) == 1
    assert not old & set(lines)
    await trio.sleep(HOUR_S)
    assert not_stored(simulation) == []
    assert requests(simulation) == at_the_start
    assert _losses(simulation) == 0
    assert [each["reason"] for each in logged(caplog, "feed_replaced")] == [
        "the exchange is about to close it"
    ]


async def test_candles_that_close_between_two_connections_are_fetched(
    autojump_clock: MockClock, simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is closed with 1001 is dialled again."""
    await trio.sleep(HOUR_S + MINUTE_S / 2)
    healed = simulation.agent.registry.context.counts.healed
    simulation.exchange.faults.close_connections(1001)
    await trio.sleep(0.1)
    with simulation.exchange.offline():
        await trio.sleep(5 * MINUTE_S)
    await trio.sleep(2 * MINUTE_S)
    assert all(info.is_active for info in simulation.agent.registry.listing())
    assert not_stored(simulation) == []
    assert simulation.agent.registry.context.counts.healed - healed >= 3 * 5 + 3
    assert not simulation.exchange.breaches
    assert logged(caplog, "feed_lost")


async def test_a_close_is_followed_by_another_dial_within_a_second(
    autojump_clock: MockClock, simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    """The first retry delay is short, and the reason is in the log."""
    await trio.sleep(MINUTE_S / 2)
    simulation.exchange.faults.close_connections(1001)
    await trio.sleep(1.5)
    assert all(info.is_active for info in simulation.agent.registry.listing())
    assert "1001" in str(logged(caplog, "feed_lost")[0]["reason"])
