"""What an answer of the REST side proves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.kline import DAY_MS, MINUTE_MS, Interval
from klineagent.market.rest import CandleAnswer, Page
from klineagent.market.venues import COINM, SPOT, USDM, Venue
from klineagent.market.wire import RestCandle
from klineagent.series.healing import ABSENT_AFTER_MS, SETTLED_AFTER_MS, Finding, find, page_of

FIRST_MS = 1_769_904_000_000


def a_candle(minute: int) -> RestCandle:
    """The candle that many minutes after the first."""
    open_ms = FIRST_MS + minute * MINUTE_MS
    return RestCandle(open_ms, 1, 1, 1, 1, 1, open_ms + MINUTE_MS - 1, 1, 1, 1, 1)


def found(asked: int, answered: list[int], *, at_minute: float) -> Finding:
    """What is known after `asked` minutes were asked for at a time, and some `answered`."""
    page = Page(FIRST_MS, FIRST_MS + (asked - 1) * MINUTE_MS, asked)
    at_ms = FIRST_MS + int(at_minute * MINUTE_MS)
    return find(page, CandleAnswer([a_candle(each) for each in answered], at_ms), Interval.M1)


def minutes(finding: Finding) -> list[int]:
    """Of the candles that are known to be closed."""
    return [(candle.open_time - FIRST_MS) // MINUTE_MS for candle in finding.closed]


def test_a_candle_with_a_later_one_behind_it_is_closed() -> None:
    """The answer cannot be older than its newest candle."""
    assert minutes(found(2, [0, 1], at_minute=1.1)) == [0]


def test_the_newest_candle_is_not_believed_until_it_is_old() -> None:
    """It may be forming, or as it was some seconds before its close."""
    assert minutes(found(2, [0], at_minute=1.1)) == []
    assert minutes(found(2, [0], at_minute=1 + SETTLED_AFTER_MS / MINUTE_MS)) == [0]


def test_a_candle_that_is_passed_over_does_not_exist() -> None:
    """A later one is there, and it is not."""
    finding = found(4, [0, 2, 3], at_minute=3.1)
    assert finding.absent == [(FIRST_MS + MINUTE_MS, FIRST_MS + 2 * MINUTE_MS)]


def test_an_answer_without_a_later_candle_proves_no_absence_at_first() -> None:
    """A halt and an answer that lags look alike; the one of them passes."""
    assert found(2, [], at_minute=1.2).absent == []
    late = found(2, [], at_minute=1 + ABSENT_AFTER_MS / MINUTE_MS)
    assert late.absent == [(FIRST_MS, FIRST_MS + MINUTE_MS)]


@given(
    st.integers(1, 12),
    st.sets(st.integers(0, 14)),
    st.floats(0, 30, allow_nan=False),
    st.integers(0, 30_000),
)
def test_nothing_is_believed_that_a_lagging_exchange_could_still_change(
    asked: int, traded: set[int], at_minute: float, lag_ms: int
) -> None:
    """Answers as of some time ago: what counts as closed had closed, what as absent never comes."""
    as_of_ms = FIRST_MS + int(at_minute * MINUTE_MS) - lag_ms
    answered = [
        minute
        for minute in sorted(traded)
        if minute < asked and FIRST_MS + minute * MINUTE_MS <= as_of_ms
    ]
    finding = found(asked, answered, at_minute=at_minute)
    for minute in minutes(finding):
        assert FIRST_MS + (minute + 1) * MINUTE_MS <= as_of_ms
    for first_ms, end_ms in finding.absent:
        gone = {(open_ms - FIRST_MS) // MINUTE_MS for open_ms in range(first_ms, end_ms, MINUTE_MS)}
        assert not gone & traded


@given(
    st.sampled_from([USDM, COINM, SPOT]),
    st.sampled_from([each for each in Interval if each is not Interval.S1]),
    st.integers(1, 3000),
)
def test_pages_are_cheap_and_within_what_the_venue_answers(
    venue: Venue, interval: Interval, candles: int
) -> None:
    """One candle more than is missing, for proof, up to the most rows for their weight."""
    first_ms = interval.open_at(FIRST_MS)
    page = page_of(first_ms, interval.shifted(first_ms, candles), interval, venue)
    assert page.last_ms == interval.shifted(first_ms, page.limit - 1)
    assert 1 <= page.limit <= 1000
    if venue is COINM:
        assert page.last_ms - page.first_ms <= 200 * DAY_MS
    elif candles < 400:
        assert page.limit == candles + 1


@pytest.mark.parametrize(("rows", "weight"), [(99, 1), (499, 2), (1000, 5), (1500, 10)])
def test_weights_are_those_that_are_documented(rows: int, weight: int) -> None:
    """The exchange was measured to be a row more generous; that is its own affair."""
    assert USDM.klines_weight(rows) == weight
