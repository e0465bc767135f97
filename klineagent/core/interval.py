"""Intervals of candles: the UTC grids they open on, and unbroken runs of candles."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from attrs import frozen

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
# 1970-01-01 was a Thursday; weekly candles count from the first Monday, 4 days later.
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
        """Return the open time of the candle that contains `time_ms`."""
        if self is Interval.MO1:
            return _month_open(time_ms, months_later=0)
        if self is Interval.W1:
            return time_ms - (time_ms - FIRST_MONDAY_MS) % WEEK_MS
        return time_ms - time_ms % _LENGTH_MS[self]

    def next_open(self, open_ms: int) -> int:
        """Return the open time of the candle after the one that opened at `open_ms`."""
        return self.shifted(open_ms, 1)

    def shifted(self, open_ms: int, candles: int) -> int:
        """Return the open time `candles` later, or earlier if `candles` is negative.

        No month is before the year 1.
        """
        if self is Interval.MO1:
            return _month_open(open_ms, months_later=candles)
        return open_ms + candles * _LENGTH_MS[self]

    def first_open(self, time_ms: int) -> int:
        """Return the first open time that is not before `time_ms`."""
        open_ms = self.open_at(time_ms)
        return open_ms if open_ms == time_ms else self.next_open(open_ms)

    def count(self, first_ms: int, end_ms: int) -> int:
        """Count the candles that open in [`first_ms`, `end_ms`), both of them open times."""
        if self is Interval.MO1:
            return _month_number(end_ms) - _month_number(first_ms)
        return (end_ms - first_ms) // _LENGTH_MS[self]

    def length_at(self, time_ms: int) -> int:
        """Return the length of the candle that contains `time_ms`."""
        open_ms = self.open_at(time_ms)
        return self.next_open(open_ms) - open_ms

    def close_of(self, open_ms: int) -> int:
        """Return the close time of the candle that opened at `open_ms`: its last millisecond."""
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


_FIRST_MONTH = 12
"""That of the year 1, the first that a date can have."""


def _month_number(time_ms: int) -> int:
    date = datetime.fromtimestamp(time_ms / SECOND_MS, UTC)
    return date.year * 12 + date.month - 1


def _month_open(time_ms: int, *, months_later: int) -> int:
    year, month = divmod(max(_FIRST_MONTH, _month_number(time_ms) + months_later), 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS


BY_LENGTH: Mapping[str, int] = {interval.value: rank for rank, interval in enumerate(Interval)}
"""Ranks intervals by length, by their names."""

Run = tuple[int, int]
"""The first and last open time of consecutive candles."""


@frozen
class Grid:
    """The grid of an interval: open times are whole steps from the origin (of months, some)."""

    origin_ms: int
    step_ms: int
    longest_ms: int
    """The longest distance of neighbours; if one is missing, those around it are further apart."""


def _grid(interval: Interval) -> Grid:
    # The candle around the epoch is as long as any: January has 31 days.
    origin_ms = interval.open_at(0)
    longest_ms = interval.next_open(origin_ms) - origin_ms
    step_ms = DAY_MS if interval is Interval.MO1 else longest_ms
    return Grid(origin_ms, step_ms, longest_ms)


GRIDS: Mapping[str, Grid] = {interval.value: _grid(interval) for interval in Interval}
"""The grid of each interval, by its name."""


def on_grid(opens: Iterable[int], interval: str) -> list[int]:
    """Return those `opens` that are open times of `interval`."""
    grid = GRIDS[interval]
    origin_ms, step_ms = grid.origin_ms, grid.step_ms
    steps = [open_ms for open_ms in opens if (open_ms - origin_ms) % step_ms == 0]
    if step_ms == grid.longest_ms:
        return steps
    return [open_ms for open_ms in steps if Interval(interval).open_at(open_ms) == open_ms]


def opens_in(first_ms: int, end_ms: int, interval: str) -> Iterator[int]:
    """Yield the open times of `interval` in [`first_ms`, `end_ms`)."""
    of_interval = Interval(interval)
    open_ms = of_interval.first_open(first_ms)
    grid = GRIDS[interval]
    if grid.step_ms == grid.longest_ms:
        yield from range(open_ms, end_ms, grid.step_ms)
        return
    while open_ms < end_ms:
        yield open_ms
        open_ms = of_interval.next_open(open_ms)


def runs_of(opens: Iterable[int], interval: str) -> tuple[Run, ...]:
    """Group ascending open times into runs of consecutive candles."""
    longest_ms = GRIDS[interval].longest_ms
    runs: list[Run] = []
    for open_ms in opens:
        if runs and open_ms - runs[-1][1] <= longest_ms:
            runs[-1] = (runs[-1][0], open_ms)
        else:
            runs.append((open_ms, open_ms))
    return tuple(runs)


def runs_begin_at(runs: Sequence[Run], first_ms: int, interval: str) -> bool:
    """Whether ascending `runs` begin with the first candle from `first_ms` on, or earlier."""
    return bool(runs) and runs[0][0] <= Interval(interval).first_open(first_ms)
