"""The exchange's clock as the agent knows it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.exchange.clock.clock import ExchangeTime

NOON_MS = 1_769_947_200_000


async def test_time_goes_on_between_events(autojump_clock: MockClock) -> None:
    """The clock shows the newest event time plus the time that has passed since."""
    time = ExchangeTime()
    assert not time.is_known
    time.confirm(NOON_MS)
    await trio.sleep(1.5)
    assert time.now_ms() == NOON_MS + 1500
    assert time.silent_s() == 1.5


async def test_a_wait_ends_with_time_or_with_an_event(autojump_clock: MockClock) -> None:
    """It ends when the moment must have come, or when an event says that it has."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    await time.until(NOON_MS + 5000)
    assert trio.current_time() == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 3_600_000)
        await wait_all_tasks_blocked()
        # The time of a simulated exchange passes faster.
        time.confirm(NOON_MS + 3_600_000)
    assert trio.current_time() == 5


async def test_a_wait_for_a_past_moment_returns_at_once(autojump_clock: MockClock) -> None:
    """Without a wait."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    await time.until(NOON_MS)
    assert trio.current_time() == 0


async def test_a_clock_that_jumps_before_a_silence_wakes_waiters(
    autojump_clock: MockClock,
) -> None:
    """After a suspension of the machine one event comes, and then none."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 3_660_000)
        await trio.sleep(10)
        time.confirm(NOON_MS + 3_600_000)
    assert trio.current_time() == 10 + 60


async def test_a_clock_that_becomes_known_wakes_waiters(autojump_clock: MockClock) -> None:
    """Before, it was not known when their moment would come."""
    time = ExchangeTime()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 5000)
        await trio.sleep(3600)
        time.confirm(NOON_MS)
    assert trio.current_time() == 3600 + 5


async def test_a_cancelled_waiter_does_not_keep_others_waiting(autojump_clock: MockClock) -> None:
    """Whether it was the first or not."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 10_000)
        for impatient_ms in (5000, 9000, 20_000):
            with trio.move_on_after(1) as patience:
                await time.until(NOON_MS + impatient_ms)
            assert patience.cancelled_caught
    assert trio.current_time() == 10


async def test_cancelled_waiters_are_removed(autojump_clock: MockClock) -> None:
    """Subscriptions to a market that are added and removed repeatedly leave nothing behind."""
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


async def test_a_late_event_wakes_no_waiter_early(
    autojump_clock: MockClock,
) -> None:
    """By its time it is earlier than the clock showed."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 5000)
        await trio.sleep(4)
        time.advance(NOON_MS + 1000)
    assert trio.current_time() == 4 + 4


async def test_waiters_are_woken_when_the_clock_is_set_back(autojump_clock: MockClock) -> None:
    """At once: they may have to wait for another moment now."""
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


async def test_a_small_step_back_wakes_no_waiter(autojump_clock: MockClock) -> None:
    """Nothing that was done by the clock must be undone."""
    time = ExchangeTime()
    time.confirm(NOON_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 20_000)
        await trio.sleep(10)
        time.confirm(NOON_MS + 6_000)
    assert trio.current_time() == 24


async def test_an_event_that_contradicts_the_clock_wakes_the_timekeeper(
    autojump_clock: MockClock,
) -> None:
    """So does silence."""
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
    reports=st.lists(st.tuples(_SECONDS, _SECONDS), max_size=8),
)
def test_waiters_go_on_as_soon_as_the_clock_shows_their_moment(
    moments: Sequence[tuple[int, int]], reports: Sequence[tuple[int, int]]
) -> None:
    """However and whenever the clock is set, whichever waits first, whichever is cancelled."""

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
            for after_s, jump_s in reports:
                await trio.sleep(after_s)
                time.confirm(time.now_ms() + (jump_s - 10) * 1000)
                await wait_all_tasks_blocked()
                assert not [each for each in waiting if each <= time.now_ms()]

    trio.run(run, clock=MockClock(autojump_threshold=0))
