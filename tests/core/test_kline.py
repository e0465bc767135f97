"""Intervals and klines."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, Interval
from klineagent.core.kline import event_time_of, least_version, version_of
from tests.klines import a_kline

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
def test_candles_follow_each_other_without_gap(interval: Interval, time_ms: int) -> None:
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


# Since the first candles on record.
close_times = st.integers(_ms(2017, 7, 1), _ms(2064, 12, 1))


@given(close_times, times, st.integers(0, 366 * DAY_MS))
def test_a_closed_state_outranks_any_forming_one(close_ms: int, told_ms: int, late: int) -> None:
    """Neither an early closing event nor a forming state long after the close changes that."""
    forming = version_of(close_ms + late, close_ms, is_closed=False)
    assert version_of(told_ms, close_ms, is_closed=True) > least_version(close_ms) > forming


@given(close_times, times, times)
def test_the_newer_event_wins_among_states_of_a_kind(close_ms: int, one: int, other: int) -> None:
    """Forming states rank by their event times until the close, and closed ones from it on."""
    older, newer = sorted((one, other))
    forming = [version_of(told_ms, close_ms, is_closed=False) for told_ms in (older, newer)]
    closed = [
        version_of(close_ms + told_ms, close_ms, is_closed=True) for told_ms in (older, newer)
    ]
    assert forming == sorted(forming)
    assert closed == sorted(closed)


@given(close_times, times)
def test_a_version_tells_the_event_time(close_ms: int, told_ms: int) -> None:
    """Of a forming state up to the close, and of a closed one from then on."""
    forming = version_of(told_ms, close_ms, is_closed=False)
    closed = version_of(told_ms, close_ms, is_closed=True)
    assert event_time_of(forming) == min(told_ms, close_ms)
    assert event_time_of(closed) == max(told_ms, close_ms + 1)


@given(close_times, times, st.integers(0, 2**43))
def test_a_repair_outranks_what_it_repairs(close_ms: int, told_ms: int, version: int) -> None:
    """Whatever version of the agent wrote it; its event time is when the exchange answered."""
    wrong = a_kline()._replace(close_time=close_ms, version=version)
    repaired = wrong.as_repair(told_ms, above_version=wrong.version)
    assert repaired.version > max(wrong.version, least_version(close_ms))
    assert repaired.event_time >= told_ms
    assert repaired.source == "repair"


@given(close_times, st.integers(0, 366 * DAY_MS), st.integers(0, 366 * DAY_MS))
def test_rows_of_the_first_agents_keep_their_order(
    close_ms: int, early_ms: int, late_ms: int
) -> None:
    """A candle that was open while its agent was upgraded still shows its newest state."""
    told_ms = close_ms - early_ms
    assert version_of(told_ms, close_ms, is_closed=False) == told_ms << 1
    told_ms = close_ms + 1 + late_ms
    assert version_of(told_ms, close_ms, is_closed=True) == told_ms << 1 | 1
    assert least_version(close_ms) < told_ms << 1 | 1
