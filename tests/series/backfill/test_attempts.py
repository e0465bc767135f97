"""Retry delays of a gap that answers do not settle."""

from __future__ import annotations

from itertools import pairwise

from klineagent.series.backfill.attempts import (
    FIRST_DELAY_S,
    IDLE_DELAY_S,
    LONGEST_DELAY_S,
    PATIENT_DELAY_S,
    Attempts,
)

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


def _moments(until_s: float, *, is_urgent: bool) -> list[float]:
    """When a gap is requested that no answer ever settles."""
    now, attempts, moments = 0.0, Attempts(0.0), []
    while now < until_s:
        moments.append(now)
        attempts = attempts.unsettled(now, is_urgent=is_urgent)
        now = attempts.retry_at
    return moments


def test_delays_double_from_a_second_to_a_minute() -> None:
    """REST lags by seconds; an exchange that is in trouble does not need more requests."""
    assert _moments(2 * MINUTE_S, is_urgent=True) == [0, 1, 2, 4, 8, 16, 32, 64]


def test_a_retry_delay_is_at_most_a_sixtieth_of_the_time_since_the_first_attempt() -> None:
    """Except in the first minute, and never more than an hour."""
    moments = _moments(5 * DAY_S, is_urgent=True)
    for before, after in pairwise(moments):
        longest_s = min(max(PATIENT_DELAY_S, before / 60), LONGEST_DELAY_S)
        assert after - before <= longest_s + 0.001
    assert moments[-1] - moments[-2] == LONGEST_DELAY_S


def test_a_range_before_a_listing_costs_few_requests() -> None:
    """Those candles do not exist, and no answer proves it."""
    assert len(_moments(DAY_S, is_urgent=False)) < 130
    assert (
        len(_moments(10 * DAY_S, is_urgent=False)) - len(_moments(9 * DAY_S, is_urgent=False)) == 24
    )
    assert (
        _moments(DAY_S, is_urgent=False)[20] - _moments(DAY_S, is_urgent=False)[19] == IDLE_DELAY_S
    )


def test_a_second_answer_that_must_agree_is_not_asked_for_too_soon() -> None:
    """The exchange's servers may share one wrong answer for a moment."""
    attempts = Attempts(0.0).unsettled(0, least_s=10, is_urgent=True)
    assert attempts.retry_at == 10
    assert Attempts(0.0).unsettled(0, is_urgent=True).retry_at == FIRST_DELAY_S


def test_the_request_that_can_prove_an_absence_is_made_when_it_can() -> None:
    """It does not wait for a longer retry delay; a moment in the past hastens nothing."""
    attempts = Attempts(0.0).unsettled(700, is_urgent=False, proven_at=1200)
    assert attempts.retry_at == 1200
    attempts = attempts.unsettled(1200, least_s=3, is_urgent=False, proven_at=1200)
    assert attempts.retry_at == 1200 + IDLE_DELAY_S
    assert attempts.unsettled(1800, least_s=3, is_urgent=False, proven_at=1801).retry_at > 1803


def test_a_first_hint_resets_the_delays() -> None:
    """After hours of empty answers one shows a row: the second answer is requested soon."""
    attempts = Attempts(0.0).unsettled(5 * HOUR_S, is_urgent=True)
    assert attempts.retry_at == 5 * HOUR_S + 5 * MINUTE_S
    now = attempts.retry_at
    attempts = attempts.unsettled(now, least_s=3, is_urgent=True, is_doubtful=True)
    assert attempts.retry_at == now + 3
    attempts = attempts.unsettled(now + 3, least_s=3, is_urgent=True, is_doubtful=True)
    assert attempts.retry_at == now + 6


def test_a_request_without_an_answer_has_no_delay_of_its_own() -> None:
    """All requests back off then."""
    attempts = Attempts(5.0).failed()
    assert (attempts.tries, attempts.retry_at < 0) == (1, True)
