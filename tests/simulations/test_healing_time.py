"""How long a known gap lasts once the exchange is back: a bound, not only an end.

A few seeds run with the suite; `KLINEAGENT_SEEDS=50 pytest tests/simulations/test_healing_time.py`
runs more. A seed draws the agent's jitter and the moment at which the outage begins.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import HOUR_S, MINUTE_S, not_stored

OUTAGE_S = 30 * MINUTE_S
SYMBOLS = 10
INTERVALS = (Interval.M1, Interval.M5, Interval.H1)
SEEDS = range(int(os.environ.get("KLINEAGENT_SEEDS", "3")))
STEP_S = 0.1


@pytest.fixture
def jitter(seed: int) -> random.Random:
    """A generator of the test's own; the agent's shared one has the same seed."""
    random.seed(seed)
    return random.Random(seed)


def _half_of_rest_fails(simulation: Simulation) -> AbstractContextManager[None]:
    return simulation.exchange.faults.failing_rest(0.5)


async def _healed_after_s(
    moment: random.Random, trouble: Callable[[Simulation], AbstractContextManager[None]]
) -> float:
    """How long something is missing after an outage, from when all streams are back."""
    market = RandomMarket(symbols=SYMBOLS, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    async with open_simulation(
        symbols=[listing.symbol for listing in market.listings][:SYMBOLS],
        intervals=INTERVALS,
        market=market,
        history=0,
        tick_ms=MINUTE_MS // 2,
    ) as simulation:
        registry = simulation.agent.registry
        await trio.sleep(2 * MINUTE_S + moment.uniform(0, MINUTE_S))
        with simulation.exchange.offline():
            await trio.sleep(OUTAGE_S + moment.uniform(0, MINUTE_S))
        with trouble(simulation), trio.fail_after(HOUR_S):
            while not all(info.is_active for info in registry.listing()):  # noqa: ASYNC110
                await trio.sleep(STEP_S)
            back_at = trio.current_time()
            while registry.missing():  # noqa: ASYNC110 - there is no event
                await trio.sleep(STEP_S)
            healed_after_s = trio.current_time() - back_at
        await trio.sleep(2 * MINUTE_S)
        assert not_stored(simulation) == []
        assert registry.missing() == 0
        assert registry.context.counts.healed >= SYMBOLS * OUTAGE_S // MINUTE_S
        assert not simulation.exchange.breaches
    return healed_after_s


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_missing_ten_seconds_after_the_streams_are_back(
    autojump_clock: MockClock, jitter: random.Random
) -> None:
    """Half an hour of 30 series, whatever retry delays earlier failures have caused."""
    assert await _healed_after_s(jitter, lambda _: nullcontext()) <= 10


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_missing_a_minute_after_though_half_of_the_answers_fail(
    autojump_clock: MockClock, jitter: random.Random
) -> None:
    """A failure makes all requests back off, but concurrent ones count as one."""
    assert await _healed_after_s(jitter, _half_of_rest_fails) <= MINUTE_S
