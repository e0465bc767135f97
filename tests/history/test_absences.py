"""Candles that do not exist: which sources say so, and what is written down."""

from __future__ import annotations

from datetime import date

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.rest import CandleAnswer, Page
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.exchange.wire import RestCandle
from klineagent.history.exchanges import known_of
from klineagent.history.proofs import NO_SOURCE, TWICE, UNKNOWN_SYMBOL, WITHHELD, shown_by
from klineagent.storage.history import FileState
from klineagent.storage.memory.store import MemoryStore
from klineagent.twin.venues import SPOT, USDM, VenueRules
from tests.history.twin import BEGIN_MS, open_past
from tests.twin.archive.samples import NOON_MS

MIDNIGHT = NOON_MS - 12 * HOUR_MS
DECEMBER = 1_764_547_200_000
HALT = (MIDNIGHT - 20 * DAY_MS + 2 * HOUR_MS, MIDNIGHT - 20 * DAY_MS + 7 * HOUR_MS)


async def test_a_halt_is_absent_by_a_file_and_an_answer(autojump_clock: MockClock) -> None:
    """Each is a witness; it is not asked for again."""
    async with open_past(SPOT, HALT) as past:
        store = MemoryStore()
        began_at = trio.current_time()
        summary = await past.imported(store)
        assert trio.current_time() - began_at < 10
        assert summary.is_whole
        [hole] = [each for each in summary.holes if each.first_ms > BEGIN_MS]
        assert (hole.first_ms, hole.end_ms, hole.reason) == (*HALT, NO_SOURCE)
        again = await past.imported(store)
    assert (again.holes, again.rest_candles) == ([], 0)
    absent = {
        each.first_open: each.rows
        for each in store.history.imports.values()
        if each.state is FileState.ABSENT
    }
    assert absent == {DECEMBER: 22 * 24 + 12, HALT[0]: 5}


async def test_without_a_file_two_answers_a_minute_apart_must_say_so(
    autojump_clock: MockClock,
) -> None:
    """A day that stood still has none."""
    day = MIDNIGHT - 20 * DAY_MS
    async with open_past(SPOT, (day, day + 2 * DAY_MS)) as past:
        began_at = trio.current_time()
        with past.archive.faults.absent_months():
            summary = await past.imported(MemoryStore())
        assert trio.current_time() - began_at >= 60
    [hole] = [each for each in summary.holes if each.reason == TWICE]
    assert (hole.first_ms, hole.candles) == (day, 48)
    assert summary.is_whole


async def test_the_exchange_is_no_judge_of_what_it_does_not_know(
    autojump_clock: MockClock,
) -> None:
    """What files of a delisted symbol lack, nobody has."""
    async with open_past(SPOT, HALT) as past:
        listings = past.exchange.rest.listings
        past.exchange.rest.listings = tuple(each for each in listings if each.symbol != "BTCUSDT")
        summary = await past.imported(MemoryStore())
    assert {each.reason for each in summary.holes} <= {UNKNOWN_SYMBOL}


async def test_a_refused_file_may_have_what_nobody_else_has(autojump_clock: MockClock) -> None:
    """Then it is missing, for the reason of the file, and no import is over."""
    day = date(2026, 1, 10)
    first_ms = MIDNIGHT - 22 * DAY_MS
    async with open_past(SPOT) as past:
        listings = past.exchange.rest.listings
        past.exchange.rest.listings = tuple(each for each in listings if each.symbol != "BTCUSDT")
        store = MemoryStore()
        with past.archive.faults.unequal_rows(days=[day]):
            summary = await past.imported(store)
        assert not summary.is_whole
        assert {each.first_ms for each in summary.holes if not each.is_proven} == {first_ms}
        assert not any(
            each.first_open <= first_ms <= each.last_open
            for each in store.history.imports.values()
            if each.state is FileState.ABSENT
        )


def test_a_symbol_whose_entry_cannot_be_read_is_known() -> None:
    """It may trade: the exchange is asked for its candles."""
    read = SymbolInfo(symbol="ETHUSDT", status="BREAK", is_trading=False, is_listed=True)
    known = known_of({"ETHUSDT": read}, {"BTCUSDT", "ETHUSDT"})
    assert known["ETHUSDT"] is read
    assert known["BTCUSDT"].is_trading
    assert known["BTCUSDT"].is_listed


@pytest.mark.parametrize(("venue", "days_ago"), [(USDM, 20), (SPOT, 1)])
async def test_what_may_yet_come_is_missing_and_not_absent(
    venue: VenueRules, days_ago: int, autojump_clock: MockClock
) -> None:
    """In the middle of a series that no file has: every candle exists, or a file may come."""
    day = MIDNIGHT - days_ago * DAY_MS
    async with open_past(venue, (day, day + HOUR_MS)) as past:
        store = MemoryStore()
        with past.archive.faults.unpublished():
            summary = await past.imported(store, first_ms=BEGIN_MS)
    [hole] = [each for each in summary.holes if each.first_ms >= BEGIN_MS]
    assert (hole.first_ms, hole.candles, hole.reason) == (day, 1, WITHHELD)
    assert not hole.is_proven
    assert {each.first_open for each in store.history.imports.values()} == {BEGIN_MS - 12 * HOUR_MS}


async def test_a_row_that_cannot_be_read_is_asked_for_again(autojump_clock: MockClock) -> None:
    """It is stored when an answer shows it, and until then it is missing, not forgotten."""
    async with open_past() as past:
        store = MemoryStore()
        with past.archive.faults.unpublished():
            with past.exchange.lies.odd_rows():
                summary = await past.imported(store, first_ms=BEGIN_MS + 12 * HOUR_MS)
            missing = {each.first_ms for each in summary.holes if not each.is_proven}
            assert missing
            assert len(store.klines) + len(missing) == 39 * 24 + 12
            assert not missing & {each.open_time for each in store.klines.values()}
            with past.exchange.lies.odd_rows(0.5):
                summary = await past.imported(store, first_ms=BEGIN_MS + 12 * HOUR_MS)
    assert summary.is_whole
    assert len(store.klines) == 39 * 24 + 12


def a_row(open_ms: int) -> RestCandle:
    """A minute."""
    return RestCandle(open_ms, 1, 1, 1, 1, 1, open_ms + MINUTE_MS - 1, 1, 1, 1, 1)


@given(st.sets(st.integers(0, 20)), st.booleans())
def test_an_answer_shows_what_it_skips_only_before_its_last_candle(
    there: set[int], is_odd: bool
) -> None:
    """The last may be forming; and if a row was left out, what lacks is unclear."""
    answer = CandleAnswer(
        [a_row(number * MINUTE_MS) for number in sorted(there)], 20 * MINUTE_MS, int(is_odd)
    )
    page = Page(0, 21 * MINUTE_MS - 1, 30)
    shown = shown_by(page, answer, (0, 20 * MINUTE_MS), Interval.M1)
    newest = max(there, default=0)
    settled = {*range(min(newest, 20))}
    assert [row.open_time // MINUTE_MS for row in shown.closed] == sorted(there & settled)
    skipped = {
        number
        for first_ms, end_ms in shown.skipped
        for number in range(first_ms // MINUTE_MS, end_ms // MINUTE_MS)
    }
    assert skipped == (set() if is_odd else settled - there)
    unclear = {
        number
        for first_ms, end_ms in shown.unclear
        for number in range(first_ms // MINUTE_MS, end_ms // MINUTE_MS)
    }
    if there:
        assert unclear == (settled - there if is_odd else set())
    else:
        assert unclear == ({*range(20)} if is_odd else set())
    assert shown.until_ms == min(newest, 20) * MINUTE_MS
    assert shown.is_empty == (not there)


def test_a_candle_off_the_grid_takes_the_place_of_its_own() -> None:
    """It is no skipped candle: the exchange has one there."""
    rows = [a_row(0), a_row(MINUTE_MS + 14_000), a_row(2 * MINUTE_MS), a_row(3 * MINUTE_MS)]
    answer = CandleAnswer(rows, 4 * MINUTE_MS, 0)
    shown = shown_by(Page(0, 5 * MINUTE_MS, 9), answer, (0, 3 * MINUTE_MS), Interval.M1)
    assert shown.off_grid == [(MINUTE_MS, 2 * MINUTE_MS)]
    assert shown.skipped == []
