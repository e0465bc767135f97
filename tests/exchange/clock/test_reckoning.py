"""Whom the clock of the exchange believes, and how much."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.exchange.clock.pace import Pace
from klineagent.exchange.clock.reckoning import BOUND_MS, Reckoning, Verdict

NOON_MS = 1_769_947_200_000
DAY_MS = 86_400_000


def _truth(at: float) -> int:
    """What time it really is there."""
    return NOON_MS + round(at * 1000)


def _known() -> Reckoning:
    """A clock that is right from the beginning of Trio's time."""
    clock = Reckoning(0.0)
    clock.confirm(NOON_MS, 0.0)
    return clock


def _asked(clock: Reckoning, at: float, *, ahead_ms: int = 0, took_s: float = 0.05) -> Verdict:
    """An answer to `/time` comes at `at`, from half of its way ago."""
    return clock.answer(_truth(at - took_s / 2) + ahead_ms, at - took_s, at)


def _error_ms(clock: Reckoning, at: float) -> float:
    return clock.now_ms(at) - _truth(at)


# The start


def test_two_answers_that_agree_make_the_clock_known() -> None:
    """They may follow each other at once."""
    clock = Reckoning(0.0)
    assert _asked(clock, 0.05) is Verdict.ALONE
    assert not clock.is_known
    assert _asked(clock, 0.1) is Verdict.SET
    assert _error_ms(clock, 0.1) == pytest.approx(-25, abs=1)


@pytest.mark.parametrize("is_event_first", [True, False])
def test_so_do_an_answer_and_an_event(*, is_event_first: bool) -> None:
    """Whichever comes first."""
    clock = Reckoning(0.0)
    if is_event_first:
        clock.advance(_truth(1) - 30, 1.0)
    assert _asked(clock, 2) is (Verdict.SET if is_event_first else Verdict.ALONE)
    clock.advance(_truth(3) - 30, 3.0)
    assert clock.is_known
    assert abs(_error_ms(clock, 3)) <= 30


def test_no_number_of_events_makes_it_known() -> None:
    """They come from one place, and are wrong together."""
    clock = Reckoning(0.0)
    for second in range(100):
        clock.advance(_truth(second) + DAY_MS, second)
    assert not clock.is_known
    assert clock.trusted_s(100) == 0


def test_a_first_answer_that_is_wrong_is_found_out() -> None:
    """A day ahead, once: the next two agree."""
    clock = Reckoning(0.0)
    assert _asked(clock, 0.1, ahead_ms=DAY_MS) is Verdict.ALONE
    assert _asked(clock, 0.2) is Verdict.ALONE
    assert _asked(clock, 1.2) is Verdict.SET
    assert abs(_error_ms(clock, 1.2)) < 100


# Events


@pytest.mark.parametrize("ahead_ms", [BOUND_MS + 100, DAY_MS, 30 * DAY_MS])
def test_an_event_far_ahead_is_a_claim(ahead_ms: int) -> None:
    """It moves nothing, is counted, and makes somebody ask; the answer refutes it."""
    clock = _known()
    clock.advance(_truth(10) + ahead_ms, 10.0)
    assert clock.now_ms(10) == _truth(10)
    assert clock.rejected == 1
    assert clock.trusted_s(10) == 0
    assert _asked(clock, 10.1) is Verdict.REFUTED
    assert clock.trusted_s(10.1) > 60
    assert _error_ms(clock, 10.1) == 0


def test_a_machine_that_was_suspended_is_told_by_an_event_and_an_answer() -> None:
    """Trio's clock stood still for eight hours."""
    gone_ms = 8 * 3_600_000
    clock = _known()
    clock.advance(_truth(10) + gone_ms, 10.0)
    assert _asked(clock, 10.1, ahead_ms=gone_ms) is Verdict.SET
    assert clock.now_ms(10.1) == pytest.approx(_truth(10.1) + gone_ms, abs=100)
    assert (clock.steps, clock.setbacks) == (1, 0)
    # It was no sign that the exchange's time passes faster.
    assert not clock.allows(_truth(20) + gone_ms + BOUND_MS + 1000, 20.0)


def test_until_an_answer_comes_no_number_of_events_does() -> None:
    """Somebody asks all the time; the first answer settles it."""
    gone_ms = 3_600_000
    clock = _known()
    for second in range(10, 610):
        clock.advance(_truth(second) + gone_ms, second)
        assert not clock.allows(_truth(second) + gone_ms, second)
        assert clock.trusted_s(second) == 0
    assert _asked(clock, 610, ahead_ms=gone_ms) is Verdict.SET
    assert clock.allows(_truth(611) + gone_ms, 611)


def test_without_events_two_answers_tell_it() -> None:
    """They have to show that their clock goes."""
    gone_ms = 8 * 3_600_000
    clock = _known()
    assert _asked(clock, 10.1, ahead_ms=gone_ms) is Verdict.ALONE
    assert _asked(clock, 10.2, ahead_ms=gone_ms) is Verdict.SET


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(-4000, 4000)), max_size=60))
def test_small_lies_move_the_clock_no_further_than_the_bound(
    lies: Sequence[tuple[float, int]],
) -> None:
    """However many events are each a few seconds ahead, or behind, of what it shows."""
    clock, at = _known(), 0.0
    for after_s, ahead_ms in lies:
        at += after_s
        clock.advance(clock.now_ms(at) + ahead_ms, at)
        assert abs(_error_ms(clock, at)) <= BOUND_MS + 1
    _asked(clock, at + 0.05)
    assert abs(_error_ms(clock, at + 0.05)) <= 50


def test_events_that_only_come_late_make_somebody_ask() -> None:
    """The clock may be ahead; it is not, and the events are believed no more than before."""
    clock = _known()
    for tenth in range(1, 99):
        clock.advance(_truth(tenth / 10) - 30_000, tenth / 10)
        assert clock.trusted_s(tenth / 10) > 0
    clock.advance(_truth(10.1) - 30_000, 10.1)
    assert clock.trusted_s(10.1) == 0
    assert _asked(clock, 10.2) is Verdict.RIGHT
    assert abs(_error_ms(clock, 10.2)) <= 50


def test_a_clock_that_is_ahead_is_set_back_by_an_event_and_an_answer() -> None:
    """Two answers had lied."""
    clock = Reckoning(0.0)
    _asked(clock, 0.1, ahead_ms=DAY_MS)
    assert _asked(clock, 0.2, ahead_ms=DAY_MS) is Verdict.SET
    for second in range(1, 12):
        clock.advance(_truth(second) - 20, second)
    assert clock.trusted_s(12) == 0
    assert _asked(clock, 12) is Verdict.SET
    assert abs(_error_ms(clock, 12)) <= 50
    assert (clock.steps, clock.setbacks) == (1, 1)


# Answers


@pytest.mark.parametrize("ahead_ms", [-DAY_MS, -BOUND_MS - 200, BOUND_MS + 200, DAY_MS])
def test_an_answer_that_stands_alone_changes_nothing(ahead_ms: int) -> None:
    """The next one is right."""
    clock = _known()
    clock.advance(_truth(100) - 20, 100.0)
    assert _asked(clock, 200, ahead_ms=ahead_ms) is Verdict.ALONE
    assert abs(_error_ms(clock, 200)) <= 20
    assert _asked(clock, 201) is Verdict.RIGHT
    assert clock.steps == 0


def test_an_answer_that_somebody_keeps_is_no_witness() -> None:
    """A copy stands still; the same copy twice is not two that agree."""
    clock = _known()
    for second in range(100, 200):
        assert clock.answer(_truth(100), second - 0.01, second) is not Verdict.SET
        clock.advance(_truth(second) - 20, second + 0.0)
        assert abs(_error_ms(clock, second)) <= 20


@pytest.mark.parametrize(("shown_ms", "then_ms"), [(-300, -150), (0, 0), (100, 100), (3000, 150)])
def test_a_clock_that_was_right_is_confirmed_to_what_the_answer_allows(
    shown_ms: int, then_ms: int
) -> None:
    """It was under way for 0.3 s, and told the time in the midst of it."""
    clock = Reckoning(0.0)
    clock.confirm(NOON_MS + shown_ms, 0.0)
    assert _asked(clock, 1.0, took_s=0.3) is Verdict.RIGHT
    assert _error_ms(clock, 1.0) == pytest.approx(then_ms, abs=1)


def test_an_answer_that_took_long_does_not_set_the_clock_back() -> None:
    """What it told was true nine seconds ago."""
    clock = _known()
    assert clock.answer(_truth(1.0), 0.9, 10.0) is Verdict.RIGHT
    assert _error_ms(clock, 10.0) == 0


def test_a_clock_is_confirmed_once_an_hour_though_events_tell_it() -> None:
    """The local clock may be fast or slow, by little."""
    clock = _known()
    for second in range(3600):
        clock.advance(_truth(second), second)
    assert clock.trusted_s(3599) == pytest.approx(1)
    assert clock.trusted_s(3600) == 0


# An exchange whose time passes faster


@pytest.mark.parametrize("speed", [2, 60, 600])
def test_a_fast_exchange_needs_few_answers_once_its_pace_is_known(speed: int) -> None:
    """Its events run ahead of what is counted, until two measurements agree how fast."""
    clock, asked, at = Reckoning(0.0), 0, 0.0
    while at < 60:
        at += 0.004
        time_ms = NOON_MS + round(at * speed * 1000)
        clock.advance(time_ms - speed, at)
        if clock.trusted_s(at) == 0:
            asked += 1
            clock.answer(NOON_MS + round((at + 0.002) * speed * 1000), at, at + 0.003)
            at += 0.003
        if at > 1:
            assert abs(clock.now_ms(at) - at * speed * 1000 - NOON_MS) < 10 * speed + BOUND_MS
    assert asked < 100


@pytest.mark.parametrize("speed", [1, 60, 1200])
@pytest.mark.parametrize("most_late_s", [0.001, 0.03])
def test_on_this_machine_the_clock_is_known_with_its_pace_and_believes_every_event_since(
    speed: int, most_late_s: float
) -> None:
    """Events do not make it known; answers do within half a second, and none is contradicted."""
    clock, at, dice = Reckoning(0.0, Pace(is_simulated=True)), 0.0, random.Random(1)
    known_at, verdicts, asked = None, set(), 0

    def truth(at: float) -> int:
        return NOON_MS + round(at * speed * 1000)

    while at < 60:
        at += 0.02
        time_ms = truth(at - dice.uniform(0, most_late_s))
        assert clock.allows(time_ms, at)
        clock.advance(time_ms, at)
        if clock.trusted_s(at) == 0:
            sent_at, at = at, at + dice.uniform(0.0005, most_late_s)
            verdicts.add(verdict := clock.answer(truth(dice.uniform(sent_at, at)), sent_at, at))
            asked += 1
            if verdict is Verdict.EARLY:
                at += 0.1
        if clock.is_known and known_at is None:
            known_at = at
    assert known_at is not None
    assert known_at < 0.6
    assert verdicts <= {Verdict.EARLY, Verdict.SET, Verdict.RIGHT}
    assert (clock.rejected, clock.steps, clock.setbacks) == (0, 0, 0)
    assert asked < 40


@pytest.mark.parametrize("awake_s", [0.5, 4.0, 40.0])
def test_a_machine_that_sleeps_again_and_again_sees_no_time_that_passes_faster(
    awake_s: float,
) -> None:
    """Trio's clock stands still for a quarter of an hour each time; then an event lies."""
    clock, gone_ms, at = _known(), 0, 0.0
    for _ in range(20):
        gone_ms += 900_000
        woken_at = at
        while at < woken_at + awake_s:
            at += 0.25
            clock.advance(_truth(at) + gone_ms, at)
            if clock.trusted_s(at) == 0:
                _asked(clock, at + 0.05, ahead_ms=gone_ms)
        assert not clock.allows(_truth(at) + gone_ms + 2 * BOUND_MS, at)
    at += 16
    clock.advance(_truth(at) + gone_ms + 3_600_000, at)
    assert abs(_error_ms(clock, at) - gone_ms) <= 100


def test_a_pace_is_forgotten_when_time_passes_as_it_should() -> None:
    """Within a few measurements, which are ten seconds apart at most."""
    clock = Reckoning(0.0)
    for tick in range(200):
        clock.advance(NOON_MS + tick * 600, tick / 100)
        clock.answer(NOON_MS + tick * 600, tick / 100, tick / 100)
    stops_ms, at = NOON_MS + 199 * 600, 1.99
    assert clock.allows(stops_ms + 60_000, at + 1)
    for second in range(1, 31):
        clock.answer(stops_ms + second * 1000, at + second, at + second)
    assert clock.allows(stops_ms + 31_000 + BOUND_MS, at + 31)
    assert not clock.allows(stops_ms + 31_000 + BOUND_MS + 1, at + 31)
