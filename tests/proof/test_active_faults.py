"""What explains that a candle is missing, and for how long."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from klineagent.proof.active_faults import EXPLAINS_GAPS, EXPLAINS_ROWS, NO_WEIGHT, Weather
from klineagent.proof.schedule import KINDS


async def test_a_fault_explains_while_it_lasts_and_for_its_own_while_after(
    autojump_clock: MockClock,
) -> None:
    """Those that touch neither REST nor the database explain nothing."""
    weather = Weather()
    assert weather.calm_since(EXPLAINS_GAPS) == -math.inf
    with weather.striking("refusing_rest"), weather.striking("losing_closings"):
        assert weather.calm_since(EXPLAINS_GAPS) == math.inf
        assert weather.calm_since(EXPLAINS_ROWS) == -math.inf
        await trio.sleep(100)
    assert weather.calm_since(EXPLAINS_GAPS) == 100 + EXPLAINS_GAPS["refusing_rest"]
    with weather.striking("refusing_rest"):
        with weather.striking("refusing_rest"):
            pass
        assert weather.calm_since(EXPLAINS_GAPS) == math.inf


async def test_it_tells_what_there_was(autojump_clock: MockClock) -> None:
    """Active faults, and those that are over."""
    weather = Weather()
    assert str(weather) == "active: nothing; nothing before"
    with weather.striking("offline"):
        await trio.sleep(60)
    await trio.sleep(5)
    with weather.striking("reset"):
        assert str(weather) == "active: reset; offline ended 5 s ago"


def test_only_faults_that_there_are_explain_anything() -> None:
    """A name that is misspelt would make the proof too strict, or too lax."""
    assert {*EXPLAINS_GAPS, *EXPLAINS_ROWS} - {NO_WEIGHT} <= set(KINDS)
