"""Long work leaves room for other tasks."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.cooperate import in_portions, in_workers


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


async def test_as_many_items_are_worked_on_as_there_are_workers(autojump_clock: MockClock) -> None:
    """Seven seconds of work take three seconds with three workers."""
    begun: list[tuple[int, float]] = []
    start = trio.current_time()

    async def work(item: int) -> None:
        begun.append((item, trio.current_time() - start))
        await trio.sleep(1)

    await in_workers(work, range(7), workers=3)
    assert [item for item, _ in sorted(begun)] == [*range(7)]
    assert sorted(at for _, at in begun) == [0, 0, 0, 1, 1, 1, 2]
    assert trio.current_time() - start == 3
