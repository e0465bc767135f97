"""The writer's buffer."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.kline import Kline
from klineagent.storage.writing.buffer import Conflation
from tests.klines import a_kline

states = st.builds(
    a_kline,
    st.integers(0, 5),
    is_closed=st.booleans(),
    after_ms=st.integers(0, 70_000),
)


def _conflation(*, capacity: int = 1000, full_batch: int = 1000) -> Conflation:
    return Conflation(capacity=capacity, full_batch=full_batch)


async def _drain(conflation: Conflation, most: int) -> list[Kline]:
    conflation.end()
    taken: list[Kline] = []
    while True:
        try:
            taken += await conflation.take(most=most, within_s=0)
        except trio.EndOfChannel:
            return taken


async def test_who_waits_is_woken_also_after_others_took_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """By a full batch."""
    conflation = _conflation(full_batch=3)
    async with trio.open_nursery() as nursery:
        conflation.put([a_kline(0)])
        nursery.start_soon(lambda: conflation.take(most=3, within_s=60))
        await trio.testing.wait_all_tasks_blocked()
        conflation.take_closed(most=3)
        conflation.put([a_kline(minute) for minute in range(3)])
    assert trio.current_time() == 0


@given(st.lists(states), st.integers(1, 4))
def test_of_each_candle_the_newest_state_is_left(klines: list[Kline], most: int) -> None:
    """Any order of states ends in the highest version of each candle, once."""
    conflation = _conflation()
    conflation.put(klines)
    taken = trio.run(_drain, conflation, most)
    assert len({kline.key for kline in taken}) == len(taken)
    newest: dict[object, int] = {}
    for kline in klines:
        newest[kline.key] = max(newest.get(kline.key, 0), kline.version)
    assert {kline.key: kline.version for kline in taken} == newest


@pytest.mark.parametrize("late_first", [True, False])
def test_what_is_closed_stays_closed(late_first: bool) -> None:
    """A forming state that arrives after the close does not replace the closed one."""
    closed, late = a_kline(), a_kline(is_closed=False, after_ms=90_000)
    conflation = _conflation()
    conflation.put([late, closed] if late_first else [closed, late])
    assert conflation.take_nowait(most=2) == (closed,)


async def test_closed_candles_leave_first() -> None:
    """A batch that cannot hold everything holds what is final."""
    conflation = _conflation()
    conflation.put([a_kline(0, is_closed=False), a_kline(1), a_kline(2)])
    assert await conflation.take(most=2, within_s=0) == (a_kline(1), a_kline(2))
    assert await conflation.take(most=2, within_s=0) == (a_kline(0, is_closed=False),)


async def test_a_row_waits_for_company_but_not_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The wait begins with the first row and ends after the interval."""
    conflation = _conflation()
    conflation.put([a_kline(0)])
    started = trio.current_time()
    assert await conflation.take(most=10, within_s=2.5) == (a_kline(0),)
    assert trio.current_time() - started == 2.5


async def test_a_full_batch_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """Enough rows end the wait."""
    conflation = _conflation(full_batch=2)
    conflation.put([a_kline(0), a_kline(1)])
    started = trio.current_time()
    assert len(await conflation.take(most=2, within_s=60)) == 2
    assert trio.current_time() == started


def test_memory_is_bounded_and_what_is_given_up_is_counted() -> None:
    """Forming candles go first, as they come again; then the oldest closed ones."""
    conflation = _conflation(capacity=3)
    conflation.put([a_kline(0), a_kline(1), a_kline(9, is_closed=False), a_kline(2)])
    assert (len(conflation), conflation.dropped_forming, conflation.dropped_closed) == (3, 1, 0)
    conflation.put([a_kline(3)])
    assert (len(conflation), conflation.dropped_forming, conflation.dropped_closed) == (3, 1, 1)
    assert trio.run(_drain, conflation, 10) == [a_kline(1), a_kline(2), a_kline(3)]


async def test_an_ended_conflation_gives_what_is_left_and_ends() -> None:
    """The last rows leave at once; after them comes the end, as often as it is asked for."""
    conflation = _conflation()
    conflation.put([a_kline(0), a_kline(1)])
    conflation.end()
    assert len(await conflation.take(most=1, within_s=60)) == 1
    assert len(await conflation.take(most=1, within_s=60)) == 1
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            await conflation.take(most=1, within_s=60)
