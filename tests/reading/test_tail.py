"""The tail of read series: bounded, and the newest states only."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from klineagent.core.kline import Kline, SeriesName
from klineagent.exchange.venues import USDM
from klineagent.reading import tail as tail_module
from klineagent.reading.rows import RowFormat
from klineagent.reading.tail import Tail
from tests.klines import OPEN_MS, a_kline

FORMAT = RowFormat.of(None, USDM)
MINUTE_MS = 60_000


def rows_of(symbol: str, minutes: range) -> list[Kline]:
    """Closed candles of a symbol."""
    return [a_kline(minute)._replace(symbol=symbol) for minute in minutes]


def a_name(symbol: str) -> SeriesName:
    """The series of these."""
    return "usdm", symbol, "1m"


async def test_the_series_not_read_for_longest_makes_room_for_rows_that_come(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if no further series is read; the newest read keeps its rows."""
    monkeypatch.setattr(tail_module, "ROWS", 100)
    monkeypatch.setattr(tail_module, "COUNTED_EVERY_ROWS", 10)
    tail = Tail()
    for symbol in "ABCD":
        tail.of(a_name(symbol), FORMAT)
    tail.of(a_name("A"), FORMAT)
    for minute in range(60):
        for symbol in "ABCD":
            tail.put(rows_of(symbol, range(minute, minute + 1)))
    kept = [len(tail.of(a_name(symbol), FORMAT)) for symbol in "ADCB"]
    assert kept[0] == 60
    assert sum(kept) <= 110


async def test_a_series_whose_format_changes_begins_anew(autojump_clock: MockClock) -> None:
    """Its rows were written otherwise; and it counts as read now, whatever makes room."""
    tail, other = Tail(), RowFormat("[%d]")
    tail.of(a_name("A"), FORMAT)
    tail.of(a_name("B"), FORMAT)
    tail.put(rows_of("A", range(5)))
    assert len(tail.of(a_name("A"), FORMAT)) == 5
    assert len(tail.of(a_name("A"), other)) == 0
    tail.make_room()
    assert tail.of(a_name("A"), other) is tail.of(a_name("A"), other)


async def test_a_candle_off_the_grid_stands_for_no_other(autojump_clock: MockClock) -> None:
    """It is a row of an answer, but one that lacks is not hidden by it."""
    series = Tail().of(a_name("BTCUSDT"), FORMAT)
    for kline in rows_of("BTCUSDT", range(3)):
        series.take(kline)
    series.take(a_kline(4)._replace(open_time=OPEN_MS + 3 * MINUTE_MS + 1))
    end_ms = OPEN_MS + 5 * MINUTE_MS
    assert len(series.closed(OPEN_MS, end_ms)) == 4
    assert [*series.opens(OPEN_MS, end_ms)] == [OPEN_MS + n * MINUTE_MS for n in range(3)]


async def test_a_forming_state_does_not_come_back_after_the_close(
    autojump_clock: MockClock,
) -> None:
    """Late states of a closed candle, and older ones of the forming one, are dropped."""
    series = Tail().of(a_name("BTCUSDT"), FORMAT)
    series.take(a_kline(1, is_closed=False, after_ms=30_000))
    series.take(a_kline(1, is_closed=False, after_ms=20_000))
    assert series.forming == a_kline(1, is_closed=False, after_ms=30_000)
    series.take(a_kline(1))
    series.take(a_kline(1, is_closed=False, after_ms=59_000))
    assert not series.forming_row(OPEN_MS, OPEN_MS + 5 * MINUTE_MS)
    series.take(a_kline(2, is_closed=False, after_ms=1_000))
    assert series.forming == a_kline(2, is_closed=False, after_ms=1_000)
