"""Deadlines of many series by the exchange's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.clock.deadlines import AT_ONCE, Deadlines, Punctual

NOON_MS = 1_769_947_200_000
_SECONDS = st.integers(min_value=1, max_value=20)
# A step back of less than six seconds is no setback.
_JUMPS = st.integers(-20, -6) | st.integers(0, 20)


@define(eq=False)
class Series:
    """Falls due every `every_ms` after noon, and notes when it was called."""

    every_ms: int
    called_ms: list[int] = field(factory=list)
    rewound_ms: list[int] = field(factory=list)
    entered: dict[Punctual, None] = field(init=False)

    def next_ms(self, now_ms: int) -> int:
        return now_ms - (now_ms - NOON_MS) % self.every_ms + self.every_ms

    def fall_due(self, now_ms: int) -> int:
        self.called_ms.append(now_ms - NOON_MS)
        return self.next_ms(now_ms)

    def rewind(self, now_ms: int) -> int:
        self.rewound_ms.append(now_ms - NOON_MS)
        return self.next_ms(now_ms)


@asynccontextmanager
async def _deadlines() -> AsyncIterator[tuple[ExchangeTime, Deadlines]]:
    """A clock that shows noon, and deadlines that are kept until the block ends."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    deadlines = Deadlines(time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)
        yield time, deadlines
        nursery.cancel_scope.cancel()


async def test_series_are_called_at_each_of_their_deadlines(autojump_clock: MockClock) -> None:
    """Whichever was entered first, and whenever."""
    async with _deadlines() as (_, deadlines):
        series = [Series(5000), Series(2000)]
        await trio.sleep(1)
        for each in series:
            deadlines.enter(each, each.next_ms(NOON_MS))
        await trio.sleep(9.5)
    assert [each.called_ms for each in series] == [[5000, 10_000], [2000, 4000, 6000, 8000, 10_000]]


async def test_a_series_that_has_left_is_not_called(autojump_clock: MockClock) -> None:
    """Nor does it keep others waiting, or stay in memory."""
    async with _deadlines() as (_, deadlines):
        gone, stays = Series(5000), Series(6000)
        for each in (gone, stays):
            deadlines.enter(each, each.next_ms(NOON_MS))
        deadlines.leave(gone)
        assert repr(deadlines).count("Series") == 1
        await trio.sleep(7)
    assert (gone.called_ms, stays.called_ms) == ([], [6000])


@define(eq=False)
class Failing(Series):
    """Fails when it falls due or is rewound."""

    def next_ms(self, now_ms: int) -> int:
        raise ZeroDivisionError


@pytest.mark.parametrize("moment_ms", [5000, -60_000], ids=["falls due", "is rewound"])
async def test_the_failure_of_a_series_is_all_that_is_told_of_it(
    autojump_clock: MockClock, moment_ms: int
) -> None:
    """Its task ends then and leaves, which is no second failure."""
    failing = Failing(5000)
    with pytest.RaisesGroup(ZeroDivisionError):
        async with _deadlines() as (time, deadlines):
            deadlines.enter(failing, NOON_MS + 5000)
            try:
                time.confirm(NOON_MS + moment_ms)
                await trio.sleep_forever()
            finally:
                deadlines.leave(failing)


async def test_deadlines_that_a_jump_of_the_clock_has_passed_fall_due_at_once(
    autojump_clock: MockClock,
) -> None:
    """Once, as the series answers with the next one after that."""
    async with _deadlines() as (time, deadlines):
        series = Series(60_000)
        deadlines.enter(series, series.next_ms(NOON_MS))
        await trio.sleep(10)
        time.confirm(NOON_MS + 3_600_500)
        await trio.sleep(60)
    assert series.called_ms == [3_600_500, 3_660_000]


async def test_all_are_rewound_when_the_clock_is_set_back(autojump_clock: MockClock) -> None:
    """At once, though the next deadline is far; then they have the deadlines that they answer."""
    async with _deadlines() as (time, deadlines):
        series = [Series(60_000), Series(7000)]
        for each in series:
            deadlines.enter(each, NOON_MS + 3_600_000)
        await trio.sleep(30)
        time.confirm(NOON_MS)
        await trio.sleep(10)
    assert [each.rewound_ms for each in series] == [[0], [0]]
    assert [each.called_ms for each in series] == [[], [7000]]


async def test_a_small_step_back_rewinds_nothing(autojump_clock: MockClock) -> None:
    """The deadline only comes later."""
    async with _deadlines() as (time, deadlines):
        series = Series(20_000)
        deadlines.enter(series, series.next_ms(NOON_MS))
        await trio.sleep(10)
        time.confirm(NOON_MS + 6000)
        await trio.sleep(13.9)
        assert not series.called_ms
        await trio.sleep(0.2)
    assert (series.called_ms, series.rewound_ms) == ([20_000], [])


async def test_thousands_that_fall_due_at_once_leave_others_their_turn(
    autojump_clock: MockClock,
) -> None:
    """When a minute closes, and when the clock is set back."""
    async with _deadlines() as (time, deadlines):
        series = [Series(60_000) for _ in range(40 * AT_ONCE)]
        for each in series:
            deadlines.enter(each, each.next_ms(NOON_MS))
        for moment_ms in (60_000, 0):
            await wait_all_tasks_blocked()  # or a portion may come before the first turn
            time.confirm(NOON_MS + moment_ms)
            turns = 0
            while not all(each.called_ms if moment_ms else each.rewound_ms for each in series):
                await trio.lowlevel.checkpoint()
                turns += 1
            assert turns >= 40


@settings(deadline=None)
@given(
    every_s=st.lists(_SECONDS, max_size=8),
    left=st.sets(st.integers(0, 7)),
    reports=st.lists(st.tuples(_SECONDS, _JUMPS), max_size=8),
)
def test_no_series_is_called_early_or_overlooked(
    every_s: Sequence[int], left: set[int], reports: Sequence[tuple[int, int]]
) -> None:
    """However and whenever the clock is set, and whichever leave."""

    async def run() -> None:
        async with _deadlines() as (time, deadlines):
            series = [Series(seconds * 1000) for seconds in every_s]
            for each in series:
                deadlines.enter(each, each.next_ms(NOON_MS))
            await trio.sleep(0.5)  # between two deadlines, as all that follows
            for number in left & {*range(len(series))}:
                deadlines.leave(series[number])
            for after_s, jump_s in reports:
                await trio.sleep(after_s)
                time.confirm(time.now_ms() + jump_s * 1000)
            await wait_all_tasks_blocked()
            running = [each for number, each in enumerate(series) if number not in left]
            for each in running:
                is_set_back = any(jump_s < 0 for _, jump_s in reports)
                assert bool(each.rewound_ms) == is_set_back
                each.called_ms.clear()
            begin_ms = time.now_ms() - NOON_MS
            await trio.sleep(45)
            for each in running:
                first_ms = each.next_ms(NOON_MS + begin_ms) - NOON_MS
                assert each.called_ms == [*range(first_ms, begin_ms + 45_000, each.every_ms)]

    trio.run(run, clock=MockClock(autojump_threshold=0))
