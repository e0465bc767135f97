"""No window holds more turns than allowed."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from klineagent.exchange.stream.rate_limit import RateLimiter


@given(
    st.integers(1, 5),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 3), min_size=1, max_size=40),
)
def test_no_window_holds_more_turns_than_allowed(
    count: int, window_s: float, pauses: list[float]
) -> None:
    """However requests come, any `count + 1` turns in a row span at least the window."""
    limiter = RateLimiter(count, window_s)
    now = 0.0
    turns = []
    for pause in pauses:
        now += pause
        turns.append(limiter._reserve(now))
    assert turns == sorted(turns)
    for early, late in zip(turns, turns[count:], strict=False):
        assert late - early >= window_s - 1e-9


async def test_turns_are_given_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Callers wait as long as the turns before theirs require."""
    limiter = RateLimiter(2, 10)
    started = trio.current_time()
    waits = []
    for _ in range(5):
        await limiter.turn()
        waits.append(trio.current_time() - started)
    assert waits == pytest.approx([0, 0, 10, 10, 20])


async def test_turns_of_the_present_window_are_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Turns reserved ahead count, turns of an hour ago do not."""
    limiter = RateLimiter(3, 10)
    assert (limiter.count, limiter.taken) == (3, 0)
    await limiter.turn()
    await trio.sleep(6)
    await limiter.turn()
    assert limiter.taken == 2
    await trio.sleep(6)
    assert limiter.taken == 1
