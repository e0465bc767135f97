"""Filling holes from REST: what to ask for, and what the answer proves. Pure.

A klines answer does not say which of its candles are closed, and it may be older than the stream.
Two things prove that a candle is final: a later candle in the same answer, or its age. The same two
prove that a candle does not exist which is not in the answer.
"""

from __future__ import annotations

from attrs import frozen

from klineagent.kline import MINUTE_MS, Interval
from klineagent.market.rest import CandleAnswer, Page
from klineagent.market.venues import Venue
from klineagent.market.wire import RestCandle

# How far an answer may lag behind the exchange's clock, with a margin: the venue's own words are
# "a few seconds". What is not there even later will not come; a halt of trading looks like that.
SETTLED_AFTER_MS = MINUTE_MS
ABSENT_AFTER_MS = 5 * MINUTE_MS


@frozen
class Finding:
    """What an answer proves of the candles that were asked for."""

    closed: list[RestCandle]
    absent: list[tuple[int, int]]
    """Ranges of open times, the ends not included, that the exchange has no candle for."""
    proven_until_ms: int
    """Of open times before this everything is known."""


def page_of(first_ms: int, end_ms: int, interval: Interval, venue: Venue) -> Page:
    """The next request for a hole: as many candles as are cheap, and one more for proof."""
    limit = min(interval.count(first_ms, end_ms) + 1, venue.klines_page)
    if venue.klines_window_ms is not None:
        furthest_ms = interval.open_at(first_ms + venue.klines_window_ms)
        limit = min(limit, interval.count(first_ms, furthest_ms) + 1)
    return Page(first_ms, interval.shifted(first_ms, limit - 1), limit)


def find(page: Page, answer: CandleAnswer, interval: Interval) -> Finding:
    """Read `answer` to the request for `page`."""
    candles = sorted(
        (
            candle
            for candle in answer.candles
            if page.first_ms <= candle.open_time <= page.last_ms
            and interval.open_at(candle.open_time) == candle.open_time
        ),
        key=lambda candle: candle.open_time,
    )
    newest_ms = candles[-1].open_time if candles else page.first_ms
    settled_ms = interval.open_at(answer.asked_at_ms - SETTLED_AFTER_MS)
    final_until_ms = max(newest_ms, settled_ms)
    closed = [candle for candle in candles if candle.open_time < final_until_ms]

    known_until_ms = min(
        max(
            newest_ms,
            interval.next_open(closed[-1].open_time) if closed else page.first_ms,
            interval.open_at(answer.asked_at_ms - ABSENT_AFTER_MS),
        ),
        interval.next_open(page.last_ms),
    )
    absent: list[tuple[int, int]] = []
    expected_ms = page.first_ms
    for open_ms in (*(candle.open_time for candle in candles), known_until_ms):
        until_ms = min(open_ms, known_until_ms)
        if expected_ms < until_ms:
            absent.append((expected_ms, until_ms))
        expected_ms = interval.next_open(open_ms)
    return Finding(closed, absent, known_until_ms)
