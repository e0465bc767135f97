"""Intervals and klines."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.kline import DAY_MS, Interval, version_of

times = st.integers(min_value=0, max_value=4_000_000_000_000)
intervals = st.sampled_from(Interval)


def _ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type, misc]  # a date


@given(intervals, times)
def test_every_moment_lies_in_exactly_one_candle(interval: Interval, time_ms: int) -> None:
    """A moment is not before its candle's open and not after its close."""
    open_ms = interval.open_at(time_ms)
    assert open_ms <= time_ms <= interval.close_of(open_ms)


@given(intervals, times)
def test_candles_follow_each_other_without_hole(interval: Interval, time_ms: int) -> None:
    """The millisecond after a close opens the next candle, and opens are fixed points."""
    open_ms = interval.open_at(time_ms)
    assert interval.open_at(open_ms) == open_ms
    assert interval.open_at(interval.close_of(open_ms)) == open_ms
    assert interval.open_at(interval.close_of(open_ms) + 1) == interval.next_open(open_ms)


@pytest.mark.parametrize(
    ("interval", "moment", "opens"),
    [
        (Interval.W1, _ms(2026, 11, 22), _ms(2026, 11, 16)),  # a Sunday belongs to its Monday
        (Interval.MO1, _ms(2024, 2, 29, 23), _ms(2024, 2, 1)),
        (Interval.D3, 3 * DAY_MS * 7000 + 1, 3 * DAY_MS * 7000),
        (Interval.M5, _ms(2026, 2, 1, 0, 7), _ms(2026, 2, 1, 0, 5)),
    ],
)
def test_opens_lie_where_the_exchange_puts_them(
    interval: Interval, moment: int, opens: int
) -> None:
    """Weeks open on Mondays, months on the 1st, three-day candles on multiples since the epoch."""
    assert interval.open_at(moment) == opens


def test_december_is_followed_by_january() -> None:
    """A month's candle ends with the month, over the end of a year, too."""
    assert Interval.MO1.next_open(_ms(2025, 12, 1)) == _ms(2026, 1, 1)


@given(times, times)
def test_the_newer_event_wins_and_closed_wins_a_tie(one: int, other: int) -> None:
    """Versions order states by event time first, by being closed second."""
    assert (version_of(one, is_closed=False) > version_of(other, is_closed=True)) == (one > other)
    assert version_of(one, is_closed=True) > version_of(one, is_closed=False)
