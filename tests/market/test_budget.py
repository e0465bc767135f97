"""Turns and waits."""

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from klineagent.backoff import HEALTHY_AFTER_S, Backoff
from klineagent.market.budget import Pace


@given(
    st.integers(1, 5),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 3), min_size=1, max_size=40),
)
def test_no_window_holds_more_turns_than_allowed(
    count: int, window_s: float, pauses: list[float]
) -> None:
    """However requests come, any `count + 1` turns in a row span at least the window."""
    pace = Pace(count, window_s)
    now = 0.0
    turns = []
    for pause in pauses:
        now += pause
        turns.append(pace._reserve(now))
    assert turns == sorted(turns)
    for early, late in zip(turns, turns[count:], strict=False):
        assert late - early >= window_s - 1e-9


async def test_turns_are_given_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Callers wait for as long as those before them make it necessary."""
    pace = Pace(2, 10)
    started = trio.current_time()
    waits = []
    for _ in range(5):
        await pace.turn()
        waits.append(trio.current_time() - started)
    assert waits == pytest.approx([0, 0, 10, 10, 20])


def test_waits_grow_to_their_ceiling_and_no_further() -> None:
    """Each wait lies under a ceiling that doubles; a thousand failures break nothing."""
    backoff = Backoff(first_s=1, most_s=8, random=random.Random(1))
    waits = [backoff.after() for _ in range(2000)]
    assert all(wait <= ceiling for wait, ceiling in zip(waits, [1, 2, 4, 8], strict=False))
    assert 4 < max(waits) <= 8


def test_only_health_starts_the_waits_anew() -> None:
    """A server that accepts and drops at once keeps us waiting longer and longer."""
    flapping = Backoff(first_s=1, most_s=64, random=random.Random(1))
    for _ in range(20):
        flapping.after(HEALTHY_AFTER_S - 1)
    assert max(flapping.after(HEALTHY_AFTER_S - 1) for _ in range(50)) > 32
    assert flapping.after(HEALTHY_AFTER_S) <= 1
