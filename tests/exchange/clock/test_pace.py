"""The pace of the exchange's time, measured by its answers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from klineagent.exchange.clock.pace import Pace

NOON_MS = 1_769_947_200_000
WAY_S = 0.002


def _asked(pace: Pace, at: float, speed: float, *, late_s: float = 0.0, ahead_ms: int = 0) -> None:
    """Measure an answer of an exchange with that pace, received at `at`."""
    told_ms = NOON_MS + round((at - WAY_S / 2 - late_s) * speed * 1000) + ahead_ms
    pace.measure(told_ms, at - WAY_S - late_s, at)


@pytest.mark.parametrize("speed", [1, 1.4, 2, 60, 1200])
def test_the_pace_of_an_exchange_on_this_machine_is_known_when_two_measurements_agree(
    speed: float,
) -> None:
    """After three answers; a pace that a busy machine could feign counts as real time."""
    pace = Pace(is_simulated=True)
    known_at = None
    for tenth in range(1, 6):
        assert pace.is_known or pace.value == 1
        _asked(pace, tenth * 0.103, speed)
        if pace.is_known and known_at is None:
            known_at = tenth
    assert known_at == (3 if speed < 1.5 else 4)
    assert pace.value == pytest.approx(speed if speed > 1.5 else 1)


def test_the_pace_of_a_remote_exchange_is_one_until_two_measurements_differ() -> None:
    """It is known from the start and needs no extra answers."""
    pace = Pace()
    assert pace.is_known
    assert not pace.is_patient
    for step in range(300):
        pace.note(NOON_MS + step * 600)
        if step in {0, 100, 299}:
            assert pace.value == 1
            _asked(pace, step / 100, 60)
    assert pace.value == pytest.approx(60)
    assert pace.due_at == float("inf")


def test_late_answers_make_no_other_pace() -> None:
    """Two measurements on a busy machine agree roughly, and the next one is better."""
    pace = Pace(is_simulated=True)
    for at, late_s in ((0.1, 0.0), (0.21, 0.03), (0.45, 0.0), (1.0, 0.03)):
        _asked(pace, at, 60, late_s=late_s)
    assert pace.is_known
    assert pace.value == pytest.approx(60, rel=0.1)


def test_one_answer_that_lies_only_delays_it() -> None:
    """The answer is a day ahead, whichever of the first answers it is."""
    for lie in range(1, 6):
        pace = Pace(is_simulated=True)
        for tenth in range(1, 20):
            _asked(pace, tenth * 0.103, 60, ahead_ms=86_400_000 * (tenth == lie))
            assert not pace.is_known or pace.value == pytest.approx(60, rel=0.05)
        assert pace.is_known


def test_no_disagreement_is_reported_before_some_measurements() -> None:
    """The clock leaps back and forth."""
    pace, patience = Pace(is_simulated=True), []
    for number in range(10):
        _asked(pace, 20.0 * number, 1, ahead_ms=86_400_000 * (-1) ** number)
        patience.append(pace.is_patient)
    assert not pace.is_known
    assert patience == [True] * 5 + [False] * 5


def test_a_rough_measurement_is_soon_followed_by_a_better_one() -> None:
    """Over twice the time each, up to ten seconds; then it is good."""
    pace, at, asked_at = Pace(is_simulated=True), 0.0, []
    while at < 60:
        at = round(at + 0.01, 2)
        if not pace.is_known or at >= pace.due_at:
            _asked(pace, at, 60)
            if pace.is_known:
                asked_at.append(at)
    gaps = [after - before for before, after in pairwise(asked_at)]
    assert gaps == pytest.approx([0.4, 0.8, 1.6, 3.2, 6.4], abs=0.02)
