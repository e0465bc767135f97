"""The ledger is right in whatever order events and answers come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent, Missing, Urgency

START_MS = 1_769_904_000_000  # Sunday, 2026-02-01 00:00 UTC
GRACE_MS = 5 * SECOND_MS
CANDLES = 12

intervals = st.sampled_from([Interval.S1, Interval.M1, Interval.D3, Interval.W1, Interval.MO1])


def a_ledger(interval: Interval = Interval.M1) -> Ledger:
    """A ledger that begins with February 2026."""
    ledger = Ledger(interval, GRACE_MS)
    ledger.begin(START_MS)
    return ledger


def opens_of(interval: Interval) -> list[int]:
    """The first open times from the start on."""
    first = interval.open_at(START_MS)
    return [interval.shifted(first, number) for number in range(CANDLES)]


def missing_in(ledger: Ledger) -> set[int]:
    """The first candles that lie in gaps."""
    return {open_ms for open_ms in opens_of(ledger.interval) if open_ms in ledger.gaps}


@given(intervals, st.data())
def test_any_order_duplication_and_loss_of_events_ends_in_the_same_truth(
    interval: Interval, data: st.DataObject
) -> None:
    """Of the candles that are due exactly those are missing whose closing event never came.

    Closings arrive in any order, twice or never; the clock ticks in between.
    """
    ledger = a_ledger(interval)
    opens = opens_of(interval)
    arriving = data.draw(st.lists(st.sampled_from(opens), max_size=2 * CANDLES))
    steps: list[Callable[[], object]] = [
        *(lambda open_ms=open_ms: ledger.close(open_ms, now_ms=0) for open_ms in arriving),
        *(lambda open_ms=open_ms: ledger.fall_due(open_ms + GRACE_MS) for open_ms in opens),
    ]
    for step in data.draw(st.permutations(steps)):
        step()
    ledger.fall_due(interval.next_open(opens[-1]) + GRACE_MS)
    assert missing_in(ledger) == set(opens) - set(arriving)
    assert ledger.missing == len(set(opens) - set(arriving))
    assert ledger.horizon_ms >= interval.next_open(opens[-1])


@given(intervals, st.data())
def test_fetching_what_is_missing_leaves_nothing_missing(
    interval: Interval, data: st.DataObject
) -> None:
    """Gaps are closed or given up piece by piece, in any order, and then nothing is missing."""
    ledger = a_ledger(interval)
    opens = opens_of(interval)
    ledger.fall_due(interval.next_open(opens[-1]) + GRACE_MS)
    absent = data.draw(st.sets(st.sampled_from(opens)))
    for open_ms in data.draw(st.permutations(opens)):
        if open_ms in absent:
            ledger.give_up(open_ms, interval.next_open(open_ms), Absence(Absent.NO_CANDLE))
        else:
            assert ledger.close(open_ms, now_ms=0)
            assert not ledger.close(open_ms, now_ms=0)
    assert not ledger.gaps
    assert {open_ms for open_ms in opens if open_ms in ledger.absences} == absent


def test_a_closing_event_moves_the_horizon_and_costs_nothing() -> None:
    """A stream that delivers every candle leaves no trace."""
    ledger = a_ledger()
    for open_ms in opens_of(Interval.M1):
        assert ledger.close(open_ms, now_ms=0)
        assert not ledger.fall_due(open_ms + MINUTE_MS + GRACE_MS)
    assert (len(ledger.gaps), len(ledger.absences), ledger.missing) == (0, 0, 0)


def test_a_candle_falls_due_at_its_close_plus_the_grace() -> None:
    """The deadline is that of the oldest candle that is still open."""
    ledger = a_ledger()
    assert ledger.deadline_ms == START_MS + MINUTE_MS + GRACE_MS
    assert not ledger.fall_due(ledger.deadline_ms - 1)
    assert ledger.fall_due(ledger.deadline_ms)
    assert list(ledger.gaps) == [(START_MS, START_MS + MINUTE_MS, Missing(Urgency.MISSED))]
    assert ledger.deadline_ms == START_MS + 2 * MINUTE_MS + GRACE_MS


def test_there_is_no_grace_if_the_stream_was_interrupted() -> None:
    """The closing events are lost, and the gap is more urgent than a missed deadline."""
    ledger = a_ledger()
    assert ledger.fall_due(START_MS + MINUTE_MS, stream_was_away=True)
    gap = ledger.next_gap()
    assert gap is not None
    assert gap.mark.urgency is Urgency.FRESH


def test_a_long_outage_is_one_gap() -> None:
    """A year of missing minutes takes the room of one."""
    ledger = a_ledger()
    ledger.fall_due(START_MS + 365 * 1440 * MINUTE_MS)
    assert len(ledger.gaps) == 1
    assert ledger.missing > 500_000


def test_of_the_most_urgent_gaps_the_newest_comes_first() -> None:
    """History waits for what has just been missed."""
    ledger = a_ledger()
    ledger.expect(START_MS - 500 * MINUTE_MS, START_MS - 10 * MINUTE_MS, Missing(Urgency.HISTORY))
    ledger.expect(START_MS - 10 * MINUTE_MS, START_MS, Missing(Urgency.RESTART))
    ledger.fall_due(START_MS + MINUTE_MS + GRACE_MS)
    ledger.close(START_MS + MINUTE_MS, now_ms=0)
    ledger.fall_due(START_MS + 3 * MINUTE_MS + GRACE_MS)
    order = []
    while (gap := ledger.next_gap()) is not None:
        order.append((gap.first_ms - START_MS) // MINUTE_MS)
        ledger.give_up(gap.first_ms, gap.end_ms, Absence(Absent.NO_CANDLE))
    assert order == [2, 0, -10, -500]


def test_a_row_that_was_lost_is_missing_again() -> None:
    """It is not stored, although the stream has delivered it."""
    ledger = a_ledger()
    ledger.close(START_MS, now_ms=0)
    ledger.reopen(START_MS, now_ms=0)
    assert missing_in(ledger) == {START_MS}
    ledger.close(START_MS, now_ms=0)
    assert not ledger.gaps


def test_a_wrong_row_is_missing_above_its_version() -> None:
    """The fetched row must outrank it."""
    ledger = a_ledger()
    ledger.close(START_MS, now_ms=0)
    ledger.reopen(START_MS, above_version=77, now_ms=0)
    assert [gap.mark for gap in ledger.gaps] == [Missing(Urgency.FRESH, above_version=77)]


def test_absent_candles_are_looked_for_again_after_an_hour_and_a_day() -> None:
    """On the hour, so that candles given up one after the other are one range."""
    first = Absence.proven(Absent.NO_CANDLE, START_MS)
    assert first.look_again_ms == START_MS + HOUR_MS
    assert first == Absence.proven(Absent.NO_CANDLE, START_MS - 59 * MINUTE_MS)
    second = first.confirmed(START_MS + HOUR_MS)
    looks_ms = START_MS + HOUR_MS + DAY_MS
    assert second.look_again_ms == looks_ms
    assert second.confirmed(looks_ms).look_again_ms is None
    assert second.postponed(looks_ms).look_again_ms == looks_ms + HOUR_MS


def test_each_series_looks_again_at_its_own_moment() -> None:
    """It is the same in each hour, so that candles given up one by one are still one range."""
    into_hour_ms = 17 * MINUTE_MS + 1
    first = Absence.proven(Absent.NO_CANDLE, START_MS, into_hour_ms)
    looks_ms = START_MS + HOUR_MS + into_hour_ms
    assert first.look_again_ms == looks_ms
    assert first == Absence.proven(Absent.NO_CANDLE, START_MS + 17 * MINUTE_MS, into_hour_ms)
    assert first.postponed(looks_ms + 1).look_again_ms == looks_ms + 2 * HOUR_MS
    assert first.confirmed(looks_ms).look_again_ms == looks_ms + DAY_MS


def test_a_row_that_the_store_refuses_is_absent_for_that_reason() -> None:
    """It is not fetched again and again."""
    ledger = a_ledger()
    ledger.close(START_MS, now_ms=0)
    ledger.set_aside(START_MS, now_ms=START_MS + MINUTE_MS)
    assert not ledger.gaps
    assert [absence.mark.reason for absence in ledger.absences] == [Absent.REFUSED]


def test_a_candle_off_the_grid_does_not_move_the_horizon() -> None:
    """In 2018 candles opened at hh:28:15 for a while; they must not be waited for."""
    ledger = a_ledger()
    assert not ledger.close(START_MS + 15_000, now_ms=0)
    ledger.close(START_MS, now_ms=0)
    assert ledger.horizon_ms == START_MS + MINUTE_MS


@pytest.mark.parametrize("is_cut_short", [True, False])
def test_a_row_off_the_grid_that_is_lost_is_missing_with_its_slot(is_cut_short: bool) -> None:
    """Whether the candle before it was cut short, or there was none in its slot."""
    ledger = a_ledger()
    ledger.fall_due(START_MS + MINUTE_MS + GRACE_MS)
    if is_cut_short:
        ledger.close(START_MS, now_ms=0)
    else:
        off_grid = Absence.proven(Absent.OFF_GRID, START_MS)
        ledger.give_up(START_MS, START_MS + MINUTE_MS, off_grid)
    assert ledger.was_handed_on(START_MS)
    ledger.reopen(START_MS + 15_000, now_ms=0)
    assert missing_in(ledger) == {START_MS}
    assert not ledger.absences
    assert not ledger.was_handed_on(START_MS)


def test_a_row_off_the_grid_that_the_store_refuses_is_absent_with_its_slot() -> None:
    """Nothing of the slot is left missing."""
    ledger = a_ledger()
    ledger.close(START_MS, now_ms=0)
    ledger.set_aside(START_MS + 15_000, now_ms=START_MS + MINUTE_MS)
    assert not ledger.gaps
    assert [each[:2] for each in ledger.absences] == [(START_MS, START_MS + MINUTE_MS)]


def test_why_a_gap_could_not_be_fetched_is_kept() -> None:
    """Users see the exchange's own words."""
    ledger = a_ledger()
    ledger.fall_due(START_MS + 5 * MINUTE_MS + GRACE_MS)
    ledger.fail(START_MS, START_MS + 2 * MINUTE_MS, "HTTP 503")
    assert [gap.mark.error for gap in ledger.gaps] == ["HTTP 503", ""]


@pytest.mark.parametrize("early", [1, 2, 4])
def test_several_one_second_candles_close_before_the_first_falls_due(early: int) -> None:
    """If candles are shorter than the grace, later ones wait for the earlier one's deadline."""
    ledger = a_ledger(Interval.S1)
    for number in range(1, early + 1):
        assert ledger.close(START_MS + number * SECOND_MS, now_ms=0)
    assert not ledger.gaps
    ledger.fall_due(START_MS + SECOND_MS + GRACE_MS)
    assert missing_in(ledger) == {START_MS}
    assert ledger.horizon_ms == START_MS + (early + 1) * SECOND_MS


def test_any_number_of_candles_may_close_before_the_first_falls_due() -> None:
    """An hour of seconds, with a grace that long."""
    ledger = Ledger(Interval.S1, 3600 * SECOND_MS)
    ledger.begin(START_MS)
    for number in range(1, 3600):
        ledger.close(START_MS + number * SECOND_MS, now_ms=0)
    ledger.close(START_MS, now_ms=0)
    assert ledger.horizon_ms == START_MS + 3600 * SECOND_MS
    assert ledger.newest_early_ms is None


@given(intervals, st.data())
def test_what_was_found_is_healed_given_up_or_missing(
    interval: Interval, data: st.DataObject
) -> None:
    """The counts agree whatever happens, and no candle is missing and absent at once."""
    ledger = a_ledger(interval)
    opens = opens_of(interval)
    some = st.sampled_from(opens)

    def until(open_ms: int) -> int:
        return interval.next_open(open_ms)

    steps: dict[str, Callable[[int], object]] = {
        "close": lambda open_ms: ledger.close(open_ms, now_ms=open_ms),
        "fall_due": lambda open_ms: ledger.fall_due(until(open_ms) + GRACE_MS),
        "expect": lambda open_ms: ledger.expect(opens[0], until(open_ms), Missing(Urgency.RESTART)),
        "reopen": lambda open_ms: ledger.reopen(open_ms, now_ms=open_ms),
        "set_aside": lambda open_ms: ledger.set_aside(open_ms, now_ms=open_ms),
        "give_up": lambda open_ms: ledger.give_up(
            open_ms, until(open_ms), Absence(Absent.NO_CANDLE)
        ),
        "fail": lambda open_ms: ledger.fail(opens[0], until(open_ms), "HTTP 503"),
    }
    for name, open_ms in data.draw(st.lists(st.tuples(st.sampled_from(sorted(steps)), some))):
        steps[name](open_ms)
        tally = ledger.tally
        gone = tally.healed.total() + tally.given_up.total()
        assert tally.found.total() == gone + ledger.missing
        assert ledger.healed == tally.healed.total()
        assert not [each for each in opens if each in ledger.gaps and each in ledger.absences]
        due = ledger.interval.count(ledger.first_ms, ledger.horizon_ms)
        closed = sum(ledger.has_closed(each) for each in opens if each < ledger.horizon_ms)
        assert closed == due - ledger.missing - ledger.absent


def test_a_candle_that_comes_is_not_absent_any_more() -> None:
    """The exchange had no such candle for minutes, and then had it after all."""
    ledger = a_ledger()
    ledger.fall_due(START_MS + MINUTE_MS + GRACE_MS)
    ledger.give_up(START_MS, START_MS + MINUTE_MS, Absence(Absent.NO_CANDLE))
    assert not ledger.has_closed(START_MS)
    assert ledger.close(START_MS, now_ms=0)
    assert ledger.has_closed(START_MS)
    assert (ledger.absent, ledger.healed) == (0, 0)


def test_what_the_store_held_before_is_covered() -> None:
    """Except for gaps; and the ledger did not begin with it."""
    ledger = a_ledger()
    ledger.reach_back(START_MS - 10 * MINUTE_MS)
    ledger.expect(START_MS - 3 * MINUTE_MS, START_MS, Missing(Urgency.RESTART))
    assert (ledger.first_ms, ledger.began_ms) == (START_MS - 10 * MINUTE_MS, START_MS)
    assert ledger.has_closed(START_MS - 4 * MINUTE_MS)
    assert not ledger.has_closed(START_MS - 3 * MINUTE_MS)
    assert not ledger.has_closed(START_MS - 11 * MINUTE_MS)


@given(intervals, st.integers(0, CANDLES - 1), st.sets(st.integers(0, CANDLES - 1)))
def test_a_clock_that_was_ahead_leaves_no_trace_once_it_is_set_back(
    interval: Interval, number: int, closed: set[int]
) -> None:
    """Candles marked too early fall due in their time; closed ones stay closed."""
    ledger, opens = a_ledger(interval), opens_of(interval)
    for each in sorted(closed):
        if each < number:
            ledger.close(opens[each], now_ms=0)
    ledger.fall_due(interval.shifted(opens[-1], 1000) + GRACE_MS)
    ledger.rewind(opens[number] + 1)
    assert ledger.horizon_ms == opens[number]
    assert missing_in(ledger) == {opens[each] for each in range(number) if each not in closed}
    assert ledger.tally.found.total() - ledger.tally.healed.total() == ledger.missing
    ledger.fall_due(interval.next_open(opens[-1]) + GRACE_MS)
    assert missing_in(ledger) == {
        opens[each] for each in range(CANDLES) if each >= number or each not in closed
    }


@pytest.mark.parametrize("looks", [0, 1])
def test_absences_confirmed_while_the_clock_was_ahead_are_looked_at_within_the_hour(
    looks: int,
) -> None:
    """Others when it is time for them anyway, or never."""
    ledger, opens = a_ledger(), opens_of(Interval.M1)
    now_ms = opens[9]
    ahead = Absence.proven(Absent.NO_CANDLE, now_ms + 30 * DAY_MS)
    right = Absence.proven(Absent.NO_CANDLE, now_ms)
    if looks:
        ahead, right = ahead.confirmed(now_ms + 30 * DAY_MS), right.confirmed(now_ms)
    never = Absence(Absent.REFUSED)
    ledger.fall_due(opens[9] + DAY_MS)
    for number, absence in enumerate((ahead, right, never)):
        ledger.give_up(opens[number], opens[number + 1], absence)
    ledger.rewind(now_ms)
    first, *others = [each.mark for each in ledger.absences]
    assert first.look_again_ms == Interval.H1.first_open(now_ms)
    assert first.looks == looks
    assert others == [right, never]


def test_a_ledger_that_began_too_late_begins_anew_when_the_clock_is_set_back() -> None:
    """A ledger whose clock is set to a later time goes on."""
    ledger = Ledger(Interval.M1, GRACE_MS)
    ledger.begin(START_MS + DAY_MS)
    ledger.rewind(START_MS)
    assert ledger.began_ms == ledger.first_ms == ledger.horizon_ms == START_MS
    ledger.rewind(START_MS + HOUR_MS)
    assert ledger.horizon_ms == START_MS
