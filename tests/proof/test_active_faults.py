"""Which faults explain that a candle is missing, and for how long."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from klineagent.proof.active_faults import EXPLAINS_GAPS, EXPLAINS_ROWS, NO_WEIGHT, ActiveFaults
from klineagent.proof.schedule import KINDS


async def test_a_fault_explains_while_it_lasts_and_for_its_own_while_after(
    autojump_clock: MockClock,
) -> None:
    """Faults that touch neither REST nor the database explain nothing."""
    active_faults = ActiveFaults()
    assert active_faults.clear_since(EXPLAINS_GAPS) == -math.inf
    with active_faults.during("refusing_rest"), active_faults.during("losing_closings"):
        assert active_faults.clear_since(EXPLAINS_GAPS) == math.inf
        assert active_faults.clear_since(EXPLAINS_ROWS) == -math.inf
        await trio.sleep(100)
    assert active_faults.clear_since(EXPLAINS_GAPS) == 100 + EXPLAINS_GAPS["refusing_rest"]
    with active_faults.during("refusing_rest"):
        with active_faults.during("refusing_rest"):
            pass
        assert active_faults.clear_since(EXPLAINS_GAPS) == math.inf


async def test_its_text_names_active_and_past_faults(autojump_clock: MockClock) -> None:
    """Past faults come with the time since their end."""
    active_faults = ActiveFaults()
    assert str(active_faults) == "active: nothing; nothing before"
    with active_faults.during("offline"):
        await trio.sleep(60)
    await trio.sleep(5)
    with active_faults.during("reset"):
        assert str(active_faults) == "active: reset; offline ended 5 s ago"


def test_every_kind_that_explains_delays_exists() -> None:
    """A misspelt name would make the proof too strict."""
    assert {*EXPLAINS_GAPS, *EXPLAINS_ROWS} - {NO_WEIGHT} <= set(KINDS)
