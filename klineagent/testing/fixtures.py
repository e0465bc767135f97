"""pytest fixtures for simulations of your own; see `examples/`.

# conftest.py
from klineagent.testing.fixtures import simulation
__all__ = ["simulation"]

# test_mine.py
async def test_mine(autojump_clock, simulation):
    await trio.sleep(24 * 3600)
    assert await simulation.store.final_klines("usdm", "BTCUSDT", "1m")
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from klineagent.testing.simulation import Simulation, open_simulation


@pytest.fixture
async def simulation() -> AsyncIterator[Simulation]:
    """Run an agent that records from the exchange twin into memory, on a virtual clock.

    The test must request `autojump_clock`, too: pytest-trio takes a clock from the test only.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        pytest.fail("request `autojump_clock` beside `simulation`, or the test runs in real time")
    async with open_simulation() as running:
        yield running
