"""The exchange's time, as far as it has told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.exchange.clock.clock import ExchangeTime

NOON_MS = 1_769_947_200_000


async def test_time_goes_on_between_what_is_told(autojump_clock: MockClock) -> None:
    """The newest time told, and what has passed here since."""
    time = ExchangeTime()
    assert not time.is_known
    time.confirm(NOON_MS)
    await trio.sleep(1.5)
    assert time.now_ms() == NOON_MS + 1500
    assert time.silent_s() == 1.5


async def test_a_moment_comes_with_time_or_with_news(autojump_clock: MockClock) -> None:
    """Who waits for it is woken when it must have come, or when the exchange says that it has."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    await time.until(NOON_MS + 5000)
    assert trio.current_time() == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 3_600_000)
        await wait_all_tasks_blocked()
        # An exchange that runs faster than time: a simulated one.
        time.confirm(NOON_MS + 3_600_000)
    assert trio.current_time() == 5


async def test_a_moment_that_has_passed_is_not_waited_for(autojump_clock: MockClock) -> None:
    """It returns at once."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    await time.until(NOON_MS)
    assert trio.current_time() == 0


async def test_a_clock_that_jumps_and_then_falls_silent_wakes_who_waits(
    autojump_clock: MockClock,
) -> None:
    """A machine that was suspended hears of it once, and then of nothing."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 3_660_000)
        await trio.sleep(10)
        time.confirm(NOON_MS + 3_600_000)
    assert trio.current_time() == 10 + 60


async def test_a_clock_that_is_known_late_wakes_who_waits(autojump_clock: MockClock) -> None:
    """Before it nobody knew when that would be."""
    time = ExchangeTime()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 5000)
        await trio.sleep(3600)
        time.confirm(NOON_MS)
    assert trio.current_time() == 3600 + 5


async def test_who_gives_up_does_not_keep_others_waiting(autojump_clock: MockClock) -> None:
    """Whether it was the first in line or not."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 10_000)
        for impatient_ms in (5000, 9000, 20_000):
            with trio.move_on_after(1) as patience:
                await time.until(NOON_MS + impatient_ms)
            assert patience.cancelled_caught
    assert trio.current_time() == 10


async def test_those_who_gave_up_are_forgotten(autojump_clock: MockClock) -> None:
    """A market that is put and taken away again and again waits for months in vain."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 5000)
        for _ in range(10):
            async with trio.open_nursery() as market:
                for number in range(100):
                    market.start_soon(time.until, NOON_MS + 1_000_000 + number)
                await wait_all_tasks_blocked()
                market.cancel_scope.cancel()
        assert repr(time).count("reached=") <= 2
    assert trio.current_time() == 5


async def test_an_event_that_was_long_on_its_way_lets_nobody_go_early(
    autojump_clock: MockClock,
) -> None:
    """By what it tells it is earlier than it seemed."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 5000)
        await trio.sleep(4)
        time.advance(NOON_MS + 1000)
    assert trio.current_time() == 4 + 4


async def test_who_waits_is_told_that_the_clock_was_set_back(autojump_clock: MockClock) -> None:
    """At once: what he waits for may be another moment now."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    shown: list[bool] = []

    async def wait(seconds: int) -> None:
        shown.append(await time.until(NOON_MS + seconds * 1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 20)
        nursery.start_soon(wait, 30)
        await trio.sleep(10)
        time.confirm(NOON_MS)
    assert (shown, trio.current_time()) == ([False, False], 10)
    assert await time.until(NOON_MS + 20_000)
    assert trio.current_time() == 30


async def test_a_small_step_back_is_waited_for_in_silence(autojump_clock: MockClock) -> None:
    """Nothing that was done by the clock need be undone."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 20_000)
        await trio.sleep(10)
        time.confirm(NOON_MS + 6_000)
    assert trio.current_time() == 24


async def test_an_event_that_contradicts_the_clock_wakes_who_asks_for_the_time(
    autojump_clock: MockClock,
) -> None:
    """And so does silence."""
    time = ExchangeTime()
    await time.doubted()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.doubted)
        await trio.sleep(7)
        time.advance(NOON_MS + 3_600_000)
    assert trio.current_time() == 7
    time.confirm(NOON_MS)
    await time.doubted()
    assert trio.current_time() == 7 + 90


_SECONDS = st.integers(min_value=0, max_value=20)


@settings(deadline=None)
@given(
    moments=st.lists(st.tuples(_SECONDS, _SECONDS), max_size=8),
    told=st.lists(st.tuples(_SECONDS, _SECONDS), max_size=8),
)
def test_whoever_waits_goes_on_as_soon_as_the_clock_shows_it(
    moments: Sequence[tuple[int, int]], told: Sequence[tuple[int, int]]
) -> None:
    """However the clock is set and when, whoever comes first and whoever gives up."""

    async def run() -> None:
        time = ExchangeTime()
        time.confirm(NOON_MS)
        waiting: list[int] = []

        async def wait(moment_ms: int, patience_s: int) -> None:
            waiting.append(moment_ms)
            with trio.move_on_after(patience_s or math.inf):
                while not await time.until(moment_ms):
                    pass
                assert time.now_ms() >= moment_ms
            waiting.remove(moment_ms)

        async with trio.open_nursery() as nursery:
            for moment_s, patience_s in moments:
                nursery.start_soon(wait, NOON_MS + moment_s * 1000, patience_s)
            for after_s, jump_s in told:
                await trio.sleep(after_s)
                time.confirm(time.now_ms() + (jump_s - 10) * 1000)
                await wait_all_tasks_blocked()
                assert not [each for each in waiting if each <= time.now_ms()]

    trio.run(run, clock=MockClock(autojump_threshold=0))
