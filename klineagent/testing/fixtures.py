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
    """An agent that records from the exchange twin into memory, on pytest-trio's virtual clock.

    The test asks for `autojump_clock`, too: pytest-trio takes its clock from the test alone.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        pytest.fail("the test needs `autojump_clock` beside `simulation`, or it runs in real time")
    async with open_simulation() as running:
        yield running
