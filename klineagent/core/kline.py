"""Klines (candlesticks) and the UTC grid of intervals they stand on."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import NamedTuple

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
# 1970-01-01 was a Thursday; the first Monday, which weekly candles count from, came 4 days later.
FIRST_MONDAY_MS = 4 * DAY_MS


class Interval(enum.Enum):
    """A candle's length, by its name on the wire (case matters: `1m` minute, `1M` month).

    All boundaries are UTC: `1w` opens on Mondays, `1M` on the 1st, `3d` on multiples of three
    days since the epoch. Times are integer milliseconds since the epoch.
    """

    S1 = "1s"
    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"
    D3 = "3d"
    W1 = "1w"
    MO1 = "1M"

    def __str__(self) -> str:
        return self.value

    def open_at(self, time_ms: int) -> int:
        """The open time of the candle that holds `time_ms`."""
        if self is Interval.MO1:
            return _month_open(time_ms, months_later=0)
        if self is Interval.W1:
            return time_ms - (time_ms - FIRST_MONDAY_MS) % WEEK_MS
        return time_ms - time_ms % _LENGTH_MS[self]

    def next_open(self, open_ms: int) -> int:
        """The open time of the candle after the one that opened at `open_ms`."""
        return self.shifted(open_ms, 1)

    def shifted(self, open_ms: int, candles: int) -> int:
        """The open time that many candles later, or earlier where `candles` is negative."""
        if self is Interval.MO1:
            return _month_open(open_ms, months_later=candles)
        return open_ms + candles * _LENGTH_MS[self]

    def first_open(self, time_ms: int) -> int:
        """The first open time that is not before `time_ms`."""
        open_ms = self.open_at(time_ms)
        return open_ms if open_ms == time_ms else self.next_open(open_ms)

    def count(self, first_ms: int, end_ms: int) -> int:
        """How many candles open in [`first_ms`, `end_ms`), both of them open times."""
        if self is Interval.MO1:
            return _month_number(end_ms) - _month_number(first_ms)
        return (end_ms - first_ms) // _LENGTH_MS[self]

    def length_at(self, time_ms: int) -> int:
        """The length of the candle that holds `time_ms`."""
        open_ms = self.open_at(time_ms)
        return self.next_open(open_ms) - open_ms

    def close_of(self, open_ms: int) -> int:
        """The close time of the candle that opened at `open_ms`: its last millisecond."""
        return self.next_open(open_ms) - 1


_LENGTH_MS = {
    Interval.S1: SECOND_MS,
    Interval.M1: MINUTE_MS,
    Interval.M3: 3 * MINUTE_MS,
    Interval.M5: 5 * MINUTE_MS,
    Interval.M15: 15 * MINUTE_MS,
    Interval.M30: 30 * MINUTE_MS,
    Interval.H1: HOUR_MS,
    Interval.H2: 2 * HOUR_MS,
    Interval.H4: 4 * HOUR_MS,
    Interval.H6: 6 * HOUR_MS,
    Interval.H8: 8 * HOUR_MS,
    Interval.H12: 12 * HOUR_MS,
    Interval.D1: DAY_MS,
    Interval.D3: 3 * DAY_MS,
    Interval.W1: WEEK_MS,
}


def _month_number(time_ms: int) -> int:
    date = datetime.fromtimestamp(time_ms / SECOND_MS, UTC)
    return date.year * 12 + date.month - 1


def _month_open(time_ms: int, *, months_later: int) -> int:
    year, month = divmod(_month_number(time_ms) + months_later, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS


Key = tuple[str, str, str, int]
"""A candle: venue, symbol, interval, open time."""


class Kline(NamedTuple):
    """One state of one candle; the fields are the columns of table `klines`, in their order.

    Times are integer milliseconds since the epoch, exchange clock. On COIN-M, `volume` counts
    contracts and `quote_volume` is in the base asset. Trade ids are -1 where there was no trade,
    or where the source (REST, archive) does not tell them. `version` ranks the states of a candle,
    see `version_of`. `source` is `stream`, `rest`, `archive`, `repair` or `unknown`.
    """

    venue: str
    symbol: str
    interval: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int
    taker_buy_volume: float
    taker_buy_quote_volume: float
    first_trade_id: int
    last_trade_id: int
    is_closed: bool
    event_time: int
    version: int
    source: str = "unknown"

    @property
    def key(self) -> Key:
        """What makes two klines states of the same candle."""
        return self[:4]

    @property
    def rank_to_exceed(self) -> int:
        """What has to be outranked where this row is fetched again: itself, if it corrects one."""
        return self.version if self.source == "repair" else 0

    def as_repair(self, told_at_ms: int, *, above_version: int) -> Kline:
        """This closed candle, as the exchange told it then, above a stored row that is wrong."""
        event_time = max(told_at_ms, (above_version >> 1) + 1)
        version = version_of(event_time, self.close_time, is_closed=True)
        return self._replace(event_time=event_time, version=version, source="repair")


def version_of(event_time_ms: int, close_time_ms: int, *, is_closed: bool) -> int:
    """The rank of a state among those of its candle: the highest is the one that counts.

    Any closed state ranks above any forming one: a forming state that is told after the close
    ranks as one told at the close. Among closed states, as among forming ones, the newest wins.
    The first agents doubled the event time of any state and added 1 to closed ones; their rows keep
    their order against these.
    """
    if is_closed:
        return max(event_time_ms, close_time_ms + 1) << 1 | 1
    return min(event_time_ms << 1, close_time_ms << 1 | 1)


def least_version(close_time_ms: int) -> int:
    """The lowest rank of a closed state: of one that was fetched, below any that was streamed."""
    return close_time_ms + 1 << 1
