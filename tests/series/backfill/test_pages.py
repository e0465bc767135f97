"""What REST answers prove, alone and together."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import DAY_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.rest import CandleAnswer, Page
from klineagent.exchange.symbols import TradingHalt
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from klineagent.exchange.wire import RestCandle
from klineagent.series.backfill.pages import (
    AGREE_AFTER_S,
    OUTAGE_MS,
    SKIPPED_AFTER_S,
    Evidence,
    Finding,
    Known,
    page_of,
    search_of,
)
from klineagent.series.spans import Spans

FIRST_MS = 1_769_904_000_000
OUTAGE_S = OUTAGE_MS / SECOND_MS
LONG_AFTER_S = 100 * 60.0
ON_FUTURES = Known(has_every_candle=True, trades=True, newest_ms=0)
ON_SPOT = Known(has_every_candle=False, trades=True, newest_ms=0)
DELISTED = Known(has_every_candle=True, trades=False, newest_ms=0)
EVERYWHERE = pytest.mark.parametrize("known", [ON_FUTURES, ON_SPOT, DELISTED])


def a_candle(minute: float, *, lasts_ms: int = MINUTE_MS, price: float = 1) -> RestCandle:
    """The candle that many minutes after the first."""
    open_ms = FIRST_MS + int(minute * MINUTE_MS)
    return RestCandle(open_ms, price, price, price, price, 1, open_ms + lasts_ms - 1, 1, 1, 1, 1)


class Asking:
    """One page that is requested again and again; seconds count from its first candle."""

    def __init__(self, minutes: int, known: Known = ON_FUTURES, *, limit: int = 500) -> None:
        self.page = Page(FIRST_MS, FIRST_MS + minutes * MINUTE_MS - 1, limit)
        self.known = known
        self.evidence = Evidence(Interval.M1)

    def answered(self, rows: Iterable[float | RestCandle], *, at_s: float) -> Finding:
        """What is proven after one more answer."""
        candles = [each if isinstance(each, RestCandle) else a_candle(each) for each in rows]
        answer = CandleAnswer(candles, FIRST_MS + int(at_s * SECOND_MS))
        return self.evidence.read(self.page, answer, self.known, at_s)


def minutes(finding: Finding) -> list[float]:
    """The open minutes of the candles that are proven closed."""
    return [(candle.open_time - FIRST_MS) / MINUTE_MS for candle in finding.closed]


def absent(finding: Finding) -> list[tuple[float, float]]:
    """The ranges that are proven absent, in minutes."""
    return [
        ((first_ms - FIRST_MS) / MINUTE_MS, (end_ms - FIRST_MS) / MINUTE_MS)
        for first_ms, end_ms in finding.absent
    ]


@EVERYWHERE
def test_a_candle_with_a_later_one_behind_it_is_closed(known: Known) -> None:
    """The answer cannot be older than its newest candle, and one answer is enough."""
    assert minutes(Asking(3, known).answered([0, 1, 2], at_s=125)) == [0, 1]


def test_the_newest_candle_of_a_symbol_that_has_every_candle_is_never_closed() -> None:
    """However old it is: an answer without the later ones is an old answer."""
    asking = Asking(2)
    assert minutes(asking.answered([0, 1], at_s=LONG_AFTER_S)) == [0]
    assert minutes(asking.answered([0, 1], at_s=2 * LONG_AFTER_S)) == [0]


@pytest.mark.parametrize("known", [ON_SPOT, DELISTED])
def test_where_there_may_be_no_later_candle_the_newest_is_closed_by_age_and_two_answers(
    known: Known,
) -> None:
    """The age is more than the exchange's services lag, and the row is unchanged meanwhile."""
    asking = Asking(2, known)
    closes_s = 60.0
    assert minutes(asking.answered([0], at_s=closes_s + OUTAGE_S - 1)) == []
    assert minutes(asking.answered([0], at_s=closes_s + OUTAGE_S)) == []
    assert minutes(asking.answered([0], at_s=closes_s + OUTAGE_S + AGREE_AFTER_S - 1)) == []
    assert minutes(asking.answered([0], at_s=closes_s + OUTAGE_S + AGREE_AFTER_S)) == [0]


def test_a_newest_candle_that_changes_between_two_answers_is_not_closed() -> None:
    """It was forming, whatever the clock says."""
    asking = Asking(2, ON_SPOT)
    assert minutes(asking.answered([a_candle(0, price=1)], at_s=LONG_AFTER_S)) == []
    assert minutes(asking.answered([a_candle(0, price=2)], at_s=LONG_AFTER_S + 60)) == []
    assert minutes(asking.answered([a_candle(0, price=2)], at_s=LONG_AFTER_S + 120)) == [0]


@pytest.mark.parametrize("known", [ON_SPOT, DELISTED])
def test_an_answer_without_a_known_candle_proves_nothing_by_age(known: Known) -> None:
    """The stream has delivered a later candle, so the answer is an old one."""
    newer = Known(
        has_every_candle=known.has_every_candle,
        trades=known.trades,
        newest_ms=FIRST_MS + 5 * MINUTE_MS,
    )
    asking = Asking(2, newer)
    for at_s in (LONG_AFTER_S, 2 * LONG_AFTER_S, 3 * LONG_AFTER_S):
        finding = asking.answered([0], at_s=at_s)
        assert (minutes(finding), absent(finding)) == ([], [])


def test_where_every_interval_has_a_candle_none_is_ever_absent() -> None:
    """Not by an empty answer, not by one with a later candle, and not after a day."""
    asking = Asking(5)
    for number in range(10):
        assert absent(asking.answered([], at_s=600 + number * 8640)) == []
        assert absent(asking.answered([0, 3, 4], at_s=600 + number * 8640)) == []


def test_on_spot_a_candle_is_absent_when_two_answers_skip_it() -> None:
    """They are a minute apart, because one answer may be wrong."""
    asking = Asking(5, ON_SPOT)
    assert absent(asking.answered([0, 3, 4], at_s=300)) == []
    assert absent(asking.answered([0, 3, 4], at_s=300 + SKIPPED_AFTER_S - 1)) == []
    assert absent(asking.answered([0, 3, 4], at_s=300 + SKIPPED_AFTER_S)) == [(1, 3)]


def test_what_answers_skipped_in_a_filled_gap_is_forgotten() -> None:
    """A candle that came and was lost again needs two answers of its own to count as absent."""
    asking = Asking(3, ON_SPOT)
    assert not asking.answered([0, 2], at_s=0).absent
    asking.evidence.forget_but(Spans())
    assert not asking.answered([0, 2], at_s=LONG_AFTER_S).absent
    assert asking.answered([0, 2], at_s=LONG_AFTER_S + SKIPPED_AFTER_S).absent


def test_on_spot_a_candle_that_comes_after_all_begins_anew() -> None:
    """One answer had it, so what skipped it before was wrong, and may be so again."""
    asking = Asking(5, ON_SPOT)
    asking.answered([0, 3, 4], at_s=300)
    assert minutes(asking.answered([0, 1, 3, 4], at_s=330)) == [0, 1, 3]
    assert absent(asking.answered([0, 3, 4], at_s=300 + SKIPPED_AFTER_S)) == [(2, 3)]


def test_on_spot_an_answer_without_a_later_candle_proves_no_absence() -> None:
    """A halt looks like a service that hangs or lags, however long it lasts."""
    asking = Asking(5, ON_SPOT)
    for number in range(20):
        finding = asking.answered([], at_s=300 + number * 900)
        assert (absent(finding), finding.is_empty) == ([], True)


def test_empty_answers_do_not_undo_what_other_answers_showed() -> None:
    """They neither skip a candle nor show it."""
    asking = Asking(5, ON_SPOT)
    asking.answered([0, 3, 4], at_s=300)
    asking.answered([], at_s=330)
    assert absent(asking.answered([0, 3, 4], at_s=300 + SKIPPED_AFTER_S)) == [(1, 3)]


def test_empty_answers_prove_absence_once_the_symbol_does_not_trade() -> None:
    """After longer than a service hangs: no later candle can follow its last one."""
    asking = Asking(5, DELISTED)
    assert absent(asking.answered([0], at_s=400)) == []
    assert absent(asking.answered([], at_s=400 + OUTAGE_S / 2)) == []
    finding = asking.answered([], at_s=400 + OUTAGE_S)
    assert absent(finding) == [(1, 5)]


def test_a_futures_symbol_that_trades_again_had_no_candles_meanwhile() -> None:
    """Candles that were not shown while it did not trade may be absent, and only those."""
    asking = Asking(5, DELISTED)
    asking.answered([0, 1], at_s=400)
    asking.known = ON_FUTURES
    assert absent(asking.answered([0, 4], at_s=400 + OUTAGE_S / 2)) == []
    assert absent(asking.answered([0, 4], at_s=400 + OUTAGE_S)) == [(2, 4)]


def test_candles_that_opened_during_a_halt_may_be_absent() -> None:
    """Even if no request was made then, as when a symbol is listed; others are missing."""
    halt = TradingHalt(FIRST_MS + 90 * SECOND_MS, FIRST_MS + 230 * SECOND_MS)
    known = Known(has_every_candle=True, trades=True, newest_ms=0, halt=halt)
    asking = Asking(7, known)
    assert absent(asking.answered([0, 6], at_s=400)) == []
    assert asking.evidence.is_skipped(FIRST_MS + 2 * MINUTE_MS, FIRST_MS + 4 * MINUTE_MS)
    assert not asking.evidence.is_skipped(FIRST_MS + MINUTE_MS, FIRST_MS + 4 * MINUTE_MS)
    assert absent(asking.answered([0, 6], at_s=400 + OUTAGE_S - 1)) == []
    assert absent(asking.answered([0, 6], at_s=400 + OUTAGE_S)) == [(2, 4)]


def test_a_candle_off_the_grid_is_final_when_two_answers_agree() -> None:
    """It is kept as it is, and takes the slot that it opened in."""
    asking = Asking(5)
    rows: list[float | RestCandle] = [0, a_candle(1.25), 2.25, 3, 4]
    assert minutes(asking.answered(rows, at_s=400)) == [0, 3]
    finding = asking.answered(rows, at_s=400 + AGREE_AFTER_S)
    assert minutes(finding) == [0, 1.25, 2.25, 3]
    assert finding.off_grid == [FIRST_MS + MINUTE_MS, FIRST_MS + 2 * MINUTE_MS]


def test_rows_that_are_shifted_in_only_one_answer_are_forgotten() -> None:
    """The next answer has the true rows, which need no second one."""
    asking = Asking(3)
    assert minutes(asking.answered([0.25, 1.25, 2.25], at_s=200)) == []
    finding = asking.answered([0, 1, 2], at_s=200 + AGREE_AFTER_S)
    assert (minutes(finding), finding.off_grid) == ([0, 1], [])
    assert not asking.evidence.is_doubtful(FIRST_MS, FIRST_MS + DAY_MS)


def test_rows_that_are_shifted_by_another_span_each_time_are_never_final() -> None:
    """No two answers agree."""
    asking = Asking(3)
    for number in range(1, 30):
        shifted = [minute + number / 60 for minute in range(3)]
        assert minutes(asking.answered(shifted, at_s=200 + 60 * number)) == []


def test_a_candle_that_was_cut_short_needs_a_second_answer_and_keeps_its_close_time() -> None:
    """Maintenance ended it; a wrong close time looks alike."""
    cut = a_candle(1, lasts_ms=14_839)
    asking = Asking(4)
    assert minutes(asking.answered([0, cut, 3], at_s=400)) == [0]
    finding = asking.answered([0, cut, 3], at_s=400 + AGREE_AFTER_S)
    assert cut in finding.closed
    assert finding.off_grid == []


def test_two_candles_in_one_slot_are_final_together() -> None:
    """If the one that was cut short filled the slot, the other would never be requested."""
    cut, after = a_candle(1, lasts_ms=20_000), a_candle(1.5)
    asking = Asking(4, ON_SPOT)
    asking.answered([0, cut], at_s=95)
    assert minutes(asking.answered([0, cut, after], at_s=110)) == [0]
    finding = asking.answered([0, cut, after, 3], at_s=400)
    assert minutes(finding) == [0]
    finding = asking.answered([0, cut, after, 3], at_s=400 + AGREE_AFTER_S)
    assert minutes(finding) == [0, 1, 1.5]
    assert finding.off_grid == []


def test_an_answer_with_two_rows_of_the_same_candle_proves_nothing_of_it() -> None:
    """Nor does it prove that others do not exist."""
    asking = Asking(5, ON_SPOT)
    rows: list[float | RestCandle] = [0, a_candle(1, price=1), a_candle(1, price=2), 4]
    for at_s in (400, 400 + SKIPPED_AFTER_S):
        finding = asking.answered(rows, at_s=at_s)
        assert (minutes(finding), absent(finding)) == ([0], [])


def test_an_answer_with_a_row_that_cannot_be_read_proves_no_absence() -> None:
    """That row may be the one that seems to be skipped."""
    asking = Asking(5, ON_SPOT)
    for at_s in (400, 400 + SKIPPED_AFTER_S, 4000):
        answer = CandleAnswer([a_candle(0), a_candle(4)], FIRST_MS + int(at_s * SECOND_MS), odd=1)
        finding = asking.evidence.read(asking.page, answer, asking.known, at_s)
        assert (minutes(finding), absent(finding)) == ([0], [])


def test_a_full_answer_shows_nothing_after_its_end() -> None:
    """Candles that it has no room for are not skipped."""
    asking = Asking(100, ON_SPOT, limit=3)
    for at_s in (7000, 7000 + SKIPPED_AFTER_S):
        finding = asking.answered([0, 1, 2], at_s=at_s)
        assert absent(finding) == []
        assert finding.shown_until_ms == FIRST_MS + 2 * MINUTE_MS


@given(
    st.integers(1, 12),
    st.sets(st.integers(0, 14)),
    st.lists(st.tuples(st.floats(0, 900), st.integers(0, OUTAGE_MS)), min_size=1, max_size=6),
    st.booleans(),
)
def test_nothing_is_believed_that_a_lagging_exchange_could_still_change(
    asked: int, traded: set[int], answers: list[tuple[float, int]], on_spot: bool
) -> None:
    """Answers are as of an earlier time: closed candles had closed, absent ones never come."""
    asking = Asking(asked, ON_SPOT if on_spot else ON_FUTURES)
    at_s = 0.0
    for later_s, lag_ms in answers:
        at_s += later_s
        as_of_ms = FIRST_MS + int(at_s * SECOND_MS) - lag_ms
        rows = [
            a_candle(minute, price=as_of_ms if is_forming else 1)
            for minute in sorted(traded)
            if minute < asked and FIRST_MS + minute * MINUTE_MS <= as_of_ms
            for is_forming in [FIRST_MS + (minute + 1) * MINUTE_MS > as_of_ms]
        ]
        finding = asking.answered(rows, at_s=at_s)
        assert all(candle.close == 1 for candle in finding.closed)
        for first_ms, end_ms in finding.absent:
            gone = {(each - FIRST_MS) // MINUTE_MS for each in range(first_ms, end_ms, MINUTE_MS)}
            assert not gone & traded


@given(
    st.sampled_from([USDM, COINM, SPOT]),
    st.sampled_from([each for each in Interval if each is not Interval.S1]),
    st.integers(1, 3000),
)
def test_pages_are_cheap_and_within_the_limits_of_the_venue(
    venue: Venue, interval: Interval, candles: int
) -> None:
    """One slot more than is missing, for proof, up to the most rows for their weight."""
    first_ms = interval.open_at(FIRST_MS)
    page = page_of(first_ms, interval.shifted(first_ms, candles), interval, venue)
    assert 1 <= page.limit <= venue.klines_page
    if venue is COINM:
        assert page.last_ms - page.first_ms <= 200 * DAY_MS
    elif candles < 400:
        assert page.last_ms == interval.shifted(first_ms, candles + 1) - 1
    assert interval.count(first_ms, page.last_ms + 1) <= page.limit


@given(
    st.sampled_from([each for each in Interval if each is not Interval.S1]), st.integers(1, 3000)
)
def test_after_an_empty_answer_the_gap_is_searched(interval: Interval, candles: int) -> None:
    """On futures from its end, where a listing is; on spot from its beginning to the present."""
    first_ms = interval.open_at(FIRST_MS)
    end_ms = interval.shifted(first_ms, candles)
    now_ms = interval.shifted(first_ms, 5000)
    for venue in (USDM, COINM):
        page = search_of(first_ms, end_ms, now_ms, interval, venue)
        assert page.first_ms >= first_ms
        assert page.last_ms == interval.next_open(end_ms) - 1
        assert page.limit <= venue.klines_page
    assert page.last_ms - page.first_ms <= 200 * DAY_MS
    page = search_of(first_ms, end_ms, now_ms, interval, SPOT)
    assert page.first_ms == first_ms
    assert page.last_ms >= now_ms
    assert page.limit <= SPOT.klines_page


@pytest.mark.parametrize(("rows", "weight"), [(99, 1), (499, 2), (1000, 5), (1500, 10)])
def test_weights_are_those_of_the_documentation(rows: int, weight: int) -> None:
    """The exchange was measured to allow one row more, which is not relied on."""
    assert USDM.klines_weight(rows) == weight
