"""Long computations have checkpoints."""

from __future__ import annotations

import pytest
import trio

from klineagent.core.cooperate import in_portions


@pytest.mark.parametrize(("items", "turns"), [(0, 0), (9, 0), (95, 9)])
async def test_everything_is_made_in_order_and_others_run_in_between(
    items: int, turns: int
) -> None:
    """There is a checkpoint after every full portion, and only then."""
    taken = 0

    async def take_turns() -> None:
        nonlocal taken
        while True:
            taken += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await trio.lowlevel.checkpoint()
        taken = 0
        made = await in_portions(str, range(items), at_once=10)
        assert made == [str(number) for number in range(items)]
        # Trio runs the two tasks in any order: the other's turn in a pass may come first or last.
        assert abs(taken - turns) <= min(turns, 1)
        nursery.cancel_scope.cancel(reason="the test is over")
