"""Which reports of the time are believed, and how far."""

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
    """The true time of the exchange."""
    return NOON_MS + round(at * 1000)


def _known() -> Reckoning:
    """A clock that is right when Trio's time begins."""
    clock = Reckoning(0.0)
    clock.confirm(NOON_MS, 0.0)
    return clock


def _asked(clock: Reckoning, at: float, *, ahead_ms: int = 0, took_s: float = 0.05) -> Verdict:
    """Take an answer to `/time` at `at`, made halfway through its journey."""
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
def test_an_answer_and_an_event_that_agree_make_it_known(*, is_event_first: bool) -> None:
    """In either order."""
    clock = Reckoning(0.0)
    if is_event_first:
        clock.advance(_truth(1) - 30, 1.0)
    assert _asked(clock, 2) is (Verdict.SET if is_event_first else Verdict.ALONE)
    clock.advance(_truth(3) - 30, 3.0)
    assert clock.is_known
    assert abs(_error_ms(clock, 3)) <= 30


def test_events_alone_do_not_make_it_known() -> None:
    """They come from one source and may be wrong together."""
    clock = Reckoning(0.0)
    for second in range(100):
        clock.advance(_truth(second) + DAY_MS, second)
    assert not clock.is_known
    assert clock.trusted_s(100) == 0


def test_a_wrong_first_answer_is_found_out() -> None:
    """It is a day ahead, once; the next two agree."""
    clock = Reckoning(0.0)
    assert _asked(clock, 0.1, ahead_ms=DAY_MS) is Verdict.ALONE
    assert _asked(clock, 0.2) is Verdict.ALONE
    assert _asked(clock, 1.2) is Verdict.SET
    assert abs(_error_ms(clock, 1.2)) < 100


# Events


@pytest.mark.parametrize("ahead_ms", [BOUND_MS + 100, DAY_MS, 30 * DAY_MS])
def test_an_event_far_ahead_is_disputed(ahead_ms: int) -> None:
    """It is counted, moves nothing, and causes a request; the answer refutes it."""
    clock = _known()
    clock.advance(_truth(10) + ahead_ms, 10.0)
    assert clock.now_ms(10) == _truth(10)
    assert clock.rejected == 1
    assert clock.trusted_s(10) == 0
    assert _asked(clock, 10.1) is Verdict.REFUTED
    assert clock.trusted_s(10.1) > 60
    assert _error_ms(clock, 10.1) == 0


def test_after_a_suspension_an_event_and_an_answer_set_the_clock() -> None:
    """Trio's clock stood still for eight hours."""
    gone_ms = 8 * 3_600_000
    clock = _known()
    clock.advance(_truth(10) + gone_ms, 10.0)
    assert _asked(clock, 10.1, ahead_ms=gone_ms) is Verdict.SET
    assert clock.now_ms(10.1) == pytest.approx(_truth(10.1) + gone_ms, abs=100)
    assert (clock.steps, clock.setbacks) == (1, 0)
    # It was no sign that the exchange's time passes faster.
    assert not clock.allows(_truth(20) + gone_ms + BOUND_MS + 1000, 20.0)


def test_events_do_not_set_the_clock_without_an_answer() -> None:
    """The time is requested repeatedly; the first answer settles it."""
    gone_ms = 3_600_000
    clock = _known()
    for second in range(10, 610):
        clock.advance(_truth(second) + gone_ms, second)
        assert not clock.allows(_truth(second) + gone_ms, second)
        assert clock.trusted_s(second) == 0
    assert _asked(clock, 610, ahead_ms=gone_ms) is Verdict.SET
    assert clock.allows(_truth(611) + gone_ms, 611)


def test_without_events_two_answers_set_the_clock() -> None:
    """The second must show that time has passed since the first."""
    gone_ms = 8 * 3_600_000
    clock = _known()
    assert _asked(clock, 10.1, ahead_ms=gone_ms) is Verdict.ALONE
    assert _asked(clock, 10.2, ahead_ms=gone_ms) is Verdict.SET


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(-4000, 4000)), max_size=60))
def test_small_errors_move_the_clock_by_no_more_than_the_bound(
    lies: Sequence[tuple[float, int]],
) -> None:
    """However many events are some seconds ahead of it, or behind."""
    clock, at = _known(), 0.0
    for after_s, ahead_ms in lies:
        at += after_s
        clock.advance(clock.now_ms(at) + ahead_ms, at)
        assert abs(_error_ms(clock, at)) <= BOUND_MS + 1
    _asked(clock, at + 0.05)
    assert abs(_error_ms(clock, at + 0.05)) <= 50


def test_late_events_alone_cause_a_request() -> None:
    """The clock may be ahead; it is not, and events are believed no more than before."""
    clock = _known()
    for tenth in range(1, 99):
        clock.advance(_truth(tenth / 10) - 30_000, tenth / 10)
        assert clock.trusted_s(tenth / 10) > 0
    clock.advance(_truth(10.1) - 30_000, 10.1)
    assert clock.trusted_s(10.1) == 0
    assert _asked(clock, 10.2) is Verdict.RIGHT
    assert abs(_error_ms(clock, 10.2)) <= 50


def test_a_clock_that_is_ahead_is_set_back_by_an_event_and_an_answer() -> None:
    """Two wrong answers had set it ahead."""
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
def test_an_answer_that_nothing_confirms_changes_nothing(ahead_ms: int) -> None:
    """The next one is right."""
    clock = _known()
    clock.advance(_truth(100) - 20, 100.0)
    assert _asked(clock, 200, ahead_ms=ahead_ms) is Verdict.ALONE
    assert abs(_error_ms(clock, 200)) <= 20
    assert _asked(clock, 201) is Verdict.RIGHT
    assert clock.steps == 0


def test_a_cached_answer_confirms_nothing() -> None:
    """A copy stands still; the same copy twice is no agreement."""
    clock = _known()
    for second in range(100, 200):
        assert clock.answer(_truth(100), second - 0.01, second) is not Verdict.SET
        clock.advance(_truth(second) - 20, second + 0.0)
        assert abs(_error_ms(clock, second)) <= 20


@pytest.mark.parametrize(("shown_ms", "then_ms"), [(-300, -150), (0, 0), (100, 100), (3000, 150)])
def test_a_right_clock_is_confirmed_within_the_latency_of_the_answer(
    shown_ms: int, then_ms: int
) -> None:
    """It took 0.3 s and shows the time at its middle."""
    clock = Reckoning(0.0)
    clock.confirm(NOON_MS + shown_ms, 0.0)
    assert _asked(clock, 1.0, took_s=0.3) is Verdict.RIGHT
    assert _error_ms(clock, 1.0) == pytest.approx(then_ms, abs=1)


def test_a_slow_answer_does_not_set_the_clock_back() -> None:
    """Its time was right nine seconds ago."""
    clock = _known()
    assert clock.answer(_truth(1.0), 0.9, 10.0) is Verdict.RIGHT
    assert _error_ms(clock, 10.0) == 0


def test_a_clock_needs_an_answer_once_an_hour_even_with_events() -> None:
    """The local clock may run a little fast or slow."""
    clock = _known()
    for second in range(3600):
        clock.advance(_truth(second), second)
    assert clock.trusted_s(3599) == pytest.approx(1)
    assert clock.trusted_s(3600) == 0


# An exchange whose time passes faster


@pytest.mark.parametrize("speed", [2, 60, 600])
def test_a_fast_exchange_needs_few_answers_once_its_pace_is_known(speed: int) -> None:
    """Its events run ahead of the count until two measurements of the pace agree."""
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
    """Events do not make it known; answers do within half a second, and contradict no event."""
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
def test_a_machine_that_is_suspended_repeatedly_sees_no_fast_time(
    awake_s: float,
) -> None:
    """Trio's clock stands still for a quarter of an hour each time; then an event is wrong."""
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


def test_a_pace_ends_when_time_passes_normally() -> None:
    """Within a few measurements, at most ten seconds apart."""
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
