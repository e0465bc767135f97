from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from klineagent.proof.turns import TURN_S, Turns

VENUES = ("usdm", "spot", "coinm")


async def test_each_venue_has_its_turn_and_then_all(autojump_clock: MockClock) -> None:
    """And so on, from the first again."""
    turns = Turns(names=VENUES, begin_s=100)
    starts = [100 + number * TURN_S for number in range(5)]
    assert [turns.alone(start + 1) for start in starts] == list(
        zip(["usdm", "spot", "coinm", None, "usdm"], starts, strict=True)
    )


async def test_a_venue_is_struck_in_its_turn_and_in_that_of_all(autojump_clock: MockClock) -> None:
    """What strikes all is struck in the latter only; time in other turns does not count."""
    turns = Turns(names=VENUES, begin_s=0)
    assert await turns.let_pass("spot", 60) == 2 * TURN_S
    assert trio.current_time() == TURN_S + 60
    assert await turns.let_pass("spot", TURN_S) == 4 * TURN_S
    assert trio.current_time() == 3 * TURN_S + 60
    assert await turns.let_pass(None, TURN_S) == 8 * TURN_S
    assert trio.current_time() == 7 * TURN_S + 60


async def test_a_single_venues_turn_never_ends(autojump_clock: MockClock) -> None:
    """Nothing is spared, so there is nothing to spare it for."""
    turns = Turns(names=("spot",), begin_s=0)
    assert await turns.let_pass("spot", 10 * TURN_S) == math.inf
    assert trio.current_time() == 10 * TURN_S
    assert turns.alone(trio.current_time())[0] is None
    assert turns.share("spot") == turns.share(None) == 1


@pytest.mark.parametrize(("name", "share"), [("usdm", 1 / 2), (None, 1 / 4)])
def test_faults_may_be_more_frequent_in_turns(name: str | None, share: float) -> None:
    """So that there are as many as without turns."""
    assert Turns(names=VENUES, begin_s=0).share(name) == share
