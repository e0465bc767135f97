"""The statistics of a series agree with its ledger and the clock."""

from __future__ import annotations

import pytest

from klineagent.core.interval import HOUR_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent, Missing, Urgency
from klineagent.series.statistics import (
    CandleState,
    SeriesStatistics,
    candle_state_of,
    lag_of,
    overdue_since,
)

START_MS = 1_769_904_000_000
GRACE_MS = 5 * SECOND_MS


def _minute(number: int) -> int:
    return START_MS + number * MINUTE_MS


def _ledger() -> Ledger:
    """Ten minutes after its beginning: 0-2 came, 3 is absent, 4-5 are missing, 6-9 came."""
    ledger = Ledger(Interval.M1, GRACE_MS)
    ledger.begin(START_MS)
    for number in (0, 1, 2, 6, 7, 8, 9):
        ledger.fall_due(_minute(number) + GRACE_MS)
        ledger.close(_minute(number), now_ms=0)
    ledger.give_up(_minute(3), _minute(4), Absence(Absent.NO_CANDLE))
    return ledger


@pytest.mark.parametrize(
    ("number", "candle_state"),
    [
        (-1, CandleState.NOT_COVERED),
        (0, CandleState.CLOSED),
        (3, CandleState.ABSENT),
        (4, CandleState.MISSING),
        (9, CandleState.CLOSED),
        (10, CandleState.AWAITED),
        (11, CandleState.FORMING),
        (12, CandleState.FUTURE),
    ],
)
def test_every_candle_has_one_state(number: int, candle_state: CandleState) -> None:
    """By the ledger up to its horizon, by the clock from there on."""
    now_ms = _minute(11) + 2 * SECOND_MS
    assert candle_state_of(_ledger(), _minute(number), now_ms) is candle_state


def test_a_candle_that_closed_early_is_closed() -> None:
    """Even while an older one is still awaited."""
    ledger = Ledger(Interval.S1, GRACE_MS)
    assert candle_state_of(ledger, START_MS, START_MS) is CandleState.NOT_COVERED
    ledger.begin(START_MS)
    ledger.close(START_MS + SECOND_MS, now_ms=0)
    now_ms = START_MS + 2 * SECOND_MS
    assert candle_state_of(ledger, START_MS, now_ms) is CandleState.AWAITED
    assert candle_state_of(ledger, START_MS + SECOND_MS, now_ms) is CandleState.CLOSED
    assert SeriesStatistics.of(ledger, now_ms).newest_closed_ms == START_MS + SECOND_MS


def test_the_counts_of_a_series_add_up() -> None:
    """Every due candle has closed, is missing, or is absent."""
    ledger = _ledger()
    ledger.close(_minute(4), now_ms=0)
    found = SeriesStatistics.of(ledger, _minute(10))
    assert (found.first_ms, found.end_ms, found.expected) == (START_MS, _minute(10), 10)
    assert (found.closed, found.missing, found.absent, found.healed) == (8, 1, 1, 1)
    assert found.newest_closed_ms == _minute(9)
    assert found.lag_ms == 0


def test_a_series_lags_while_its_newest_candles_are_missing() -> None:
    """Since the close of the one before; an absent candle is no lag."""
    ledger = _ledger()
    ledger.fall_due(_minute(12) + GRACE_MS)
    assert lag_of(ledger, _minute(13)) == 3 * MINUTE_MS
    assert SeriesStatistics.of(ledger, _minute(13)).newest_closed_ms == _minute(9)
    ledger.give_up(_minute(10), _minute(12), Absence(Absent.NOT_TRADING))
    assert lag_of(ledger, _minute(13)) == 0
    assert SeriesStatistics.of(ledger, _minute(13)).newest_closed_ms == _minute(9)


def test_missing_history_is_neither_lag_nor_overdue() -> None:
    """A new series is filled backwards; a running one lags while its newest candles are missing."""
    ledger = Ledger(Interval.M1, GRACE_MS)
    ledger.begin(START_MS)
    ledger.expect(START_MS - HOUR_MS, START_MS, Missing(Urgency.HISTORY))
    assert SeriesStatistics.of(ledger, START_MS).newest_closed_ms is None
    assert lag_of(ledger, START_MS) == 0
    assert overdue_since(ledger) is None
    ledger.expect(START_MS - 10 * MINUTE_MS, START_MS, Missing(Urgency.RESTART))
    assert lag_of(ledger, START_MS) == 10 * MINUTE_MS
    assert overdue_since(ledger) is None


def test_candles_missed_while_the_series_ran_are_overdue() -> None:
    """Since their deadline."""
    assert overdue_since(_ledger()) == _minute(5) + GRACE_MS
