"""The exchange's time, as far as it has told."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.market.clock import ExchangeTime

NOON_MS = 1_769_947_200_000


async def test_time_goes_on_between_what_is_told(autojump_clock: MockClock) -> None:
    """The newest time told, and what has passed here since."""
    time = ExchangeTime()
    assert not time.is_known
    time.hear(NOON_MS)
    await trio.sleep(1.5)
    assert time.now_ms() == NOON_MS + 1500
    assert time.silent_s() == 1.5


async def test_an_older_time_changes_nothing(autojump_clock: MockClock) -> None:
    """Events come late and out of order."""
    time = ExchangeTime()
    time.hear(NOON_MS)
    await trio.sleep(10)
    time.hear(NOON_MS - 30_000)
    assert time.now_ms() == NOON_MS + 10_000


async def test_a_moment_comes_with_time_or_with_news(autojump_clock: MockClock) -> None:
    """Who waits for it is woken when it must have come, or when the exchange says that it has."""
    time = ExchangeTime()
    time.hear(NOON_MS)
    await time.until(NOON_MS + 5000)
    assert trio.current_time() == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(time.until, NOON_MS + 3_600_000)
        await wait_all_tasks_blocked()
        # An exchange that runs faster than time: a simulated one.
        time.hear(NOON_MS + 3_600_000)
    assert trio.current_time() == 5


async def test_a_moment_that_has_passed_is_not_waited_for(autojump_clock: MockClock) -> None:
    """It returns at once."""
    time = ExchangeTime()
    time.hear(NOON_MS)
    await time.until(NOON_MS)
    assert trio.current_time() == 0
