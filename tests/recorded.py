"""What an agent has stored of the archive, candle by candle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.storage.opening import open_store
from tests.archived import Row, archived, expected, fields_of

INTERVALS = (Interval.M1, Interval.M5, Interval.M15, Interval.H1)
"""Of those that are recorded by default, the ones that close within a test."""

UNDER_WAY_MS = 4 * MINUTE_MS
"""What closed so shortly before the agent was told to stop was perhaps still on its way: of 1200
times as fast a clock that is a fifth of a second."""


async def check_recorded(store_url: str, symbols: Sequence[str], stopped_at_ms: int) -> int:
    """Check that what is stored is what was archived, each candle once; return how many.

    From the archive's beginning, which is no further back than an agent fetches, to what closed
    before the agent was told to stop.
    """
    checked = 0
    async with open_store(store_url) as store:
        for symbol in symbols:
            rows = archived(symbol)
            assert stopped_at_ms < max(rows), "the archive ended before the agent did"
            for interval in INTERVALS:
                klines = await store.final_klines("usdm", symbol, interval.value)
                _check(klines, interval, rows, stopped_at_ms)
                checked += len(klines)
    return checked


def _check(
    klines: list[Kline], interval: Interval, rows: dict[int, Row], stopped_at_ms: int
) -> None:
    due_ms = stopped_at_ms - UNDER_WAY_MS
    due = list(
        takewhile(lambda each: interval.next_open(each) <= due_ms, _opens(interval, min(rows)))
    )
    # And it went on for as long as stopping took.
    more = islice(_opens(interval, min(rows)), len(due), max(len(due), len(klines)))
    assert [kline.open_time for kline in klines] == [*due, *more]
    for kline in klines:
        minutes = range(kline.open_time, kline.close_time, MINUTE_MS)
        assert fields_of(kline) == expected([rows[each] for each in minutes], interval)


def _opens(interval: Interval, first_ms: int) -> Iterator[int]:
    while True:
        yield first_ms
        first_ms = interval.next_open(first_ms)
