from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import MINUTE_MS, SECOND_MS
from klineagent.twin.feed.schedule import closing_time, next_moment, next_second
from tests.twin.samples import START_MS


@given(st.integers(0, 10 * MINUTE_MS), st.sampled_from([250, 2_000, 15_000, 60_000, 450]))
def test_closings_come_before_events_of_the_next_candle(after: int, tick_ms: int) -> None:
    """Each minute has one closing at 299 ms, and then the ticks."""
    moment = next_moment(START_MS + after, tick_ms)
    assert moment.time_ms > START_MS + after
    into_minute = moment.time_ms % MINUTE_MS
    assert into_minute == 299 if moment.closes else into_minute > 299


@pytest.mark.parametrize(("tick_ms", "ticks"), [(15_000, 4), (60_000, 1), (250, 239)])
def test_a_minute_has_its_ticks(tick_ms: int, ticks: int) -> None:
    """Four at 15 s, one at 60 s; at 250 ms the first gives way to the closing."""
    found, now = [], START_MS
    while (moment := next_moment(now, tick_ms)).time_ms < START_MS + MINUTE_MS:
        now = moment.time_ms
        found.append(moment.closes)
    assert found == [True] + [False] * ticks


@pytest.mark.parametrize("minutes", range(2, 13))
def test_ticks_may_be_minutes_apart(minutes: int) -> None:
    """Each is in the middle of a minute, however many minutes lie between them."""
    tick_ms, now = minutes * MINUTE_MS, START_MS
    found: list[int] = []
    while len(found) < 3:
        moment = next_moment(now, tick_ms)
        now = moment.time_ms
        if not moment.closes:
            found.append(now)
    assert {time % MINUTE_MS for time in found} == {MINUTE_MS // 2}
    assert found[2] - found[1] == found[1] - found[0] == tick_ms


@given(st.integers(0, 10 * MINUTE_MS))
def test_seconds_close_as_late_as_minutes(after: int) -> None:
    """Once in each second, always after the time that was given."""
    moment = next_second(START_MS + after)
    assert moment % SECOND_MS == 299
    assert 0 < moment - START_MS - after <= SECOND_MS


@given(st.sampled_from(["BTCUSDT", "币安人生USDT"]), st.integers(0, 10**6))
def test_closing_events_are_a_little_late(symbol: str, minute: int) -> None:
    """2 to 300 ms after T, always the same for the same candle."""
    close_ms = START_MS + minute * MINUTE_MS - 1
    assert 2 <= closing_time(symbol, close_ms) - close_ms <= 300
    assert closing_time(symbol, close_ms) == closing_time(symbol, close_ms)
