"""The tail: newest candles of series that are read, as text, as they pass on the bus or were read.

A bot asks for the newest candles of each of its pairs once a minute. Joining rows that are written
already takes 30 us for 500 of them; writing them anew takes a millisecond.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import trio
from attrs import define, field

from klineagent.core.interval import Interval, on_grid
from klineagent.core.kline import Kline, SeriesName
from klineagent.reading.rows import RowFormat

# As many rows as one klines request may ask for.
ROWS_A_SERIES = 1_500
TRIMMED_AT_ONCE = 100
# 200 bytes each: 64 MB, or 640 series of 500 rows. The series that was not read for longest makes
# room.
ROWS = 320_000
# Counting them takes as long as taking a hundred.
COUNTED_EVERY_ROWS = 10_000


@define(eq=False)
class TailSeries:
    """The newest closed candles of one series, but not each of them, and the forming one."""

    interval: Interval
    format: RowFormat
    since: float = field(factory=trio.current_time, init=False)
    """When the series was read first, and is followed since, by Trio's clock."""
    forming: Kline | None = field(default=None, init=False)
    """The newest state of a candle that has not closed since."""
    reading: trio.Lock = field(factory=trio.Lock, init=False)
    """Held by a reader that fills in rows from the store: the next ones find them here."""
    _opens: array[int] = field(factory=lambda: array("q"), init=False)
    _versions: array[int] = field(factory=lambda: array("q"), init=False)
    _texts: list[bytes] = field(factory=list, init=False)
    _has_off_grid: bool = field(default=False, init=False)
    _changed: trio.Event | None = field(default=None, init=False)
    """Made when a reader waits."""

    def __len__(self) -> int:
        return len(self._opens)

    def take(self, kline: Kline) -> None:
        """Take a state, unless it is outranked; the oldest candles make room."""
        if kline.is_closed:
            self._take_closed(kline)
        elif self._is_newest(kline):
            self.forming = kline
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def change(self) -> None:
        """Wait until a state has been taken."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def opens(self, first_ms: int, end_ms: int) -> Sequence[int]:
        """Return the open times in [`first_ms`, `end_ms`) of closed candles, ascending.

        Those of candles off the grid are left out: they stand for no other.
        """
        opens = self._opens[self._within(first_ms, end_ms)]
        return on_grid(opens, self.interval.value) if self._has_off_grid else opens

    def closed(self, first_ms: int, end_ms: int) -> list[bytes]:
        """Return the rows of these candles."""
        return self._texts[self._within(first_ms, end_ms)]

    def states(
        self, first_ms: int, end_ms: int, *, beside: Iterable[Kline] = ()
    ) -> dict[int, bytes]:
        """Return these rows by their candles' open times, with those `beside` that outrank them."""
        within = self._within(first_ms, end_ms)
        rows = dict(zip(self._opens[within], self._texts[within], strict=True))
        ranks = dict(zip(self._opens[within], self._versions[within], strict=True))
        for kline in beside:
            if ranks.get(kline.open_time, 0) < kline.version:
                ranks[kline.open_time] = kline.version
                rows[kline.open_time] = self.format.row(kline)
        return rows

    def forming_row(self, first_ms: int, end_ms: int) -> list[bytes]:
        """Return the row of the forming candle if it opens in [`first_ms`, `end_ms`), or none."""
        if self.forming is None or not first_ms <= self.forming.open_time < end_ms:
            return []
        return [self.format.row(self.forming)]

    def _within(self, first_ms: int, end_ms: int) -> slice:
        return slice(bisect_left(self._opens, first_ms), bisect_left(self._opens, end_ms))

    def _take_closed(self, kline: Kline) -> None:
        opened, at = kline.open_time, bisect_left(self._opens, kline.open_time)
        if self.forming is not None and self.forming.open_time <= opened:
            self.forming = None
        if at == len(self._opens) or self._opens[at] != opened:
            self._has_off_grid |= self.interval.open_at(opened) != opened
            self._opens.insert(at, opened)
            self._versions.insert(at, kline.version)
            self._texts.insert(at, self.format.row(kline))
            if len(self) > ROWS_A_SERIES + TRIMMED_AT_ONCE:
                for rows in (self._opens, self._versions, self._texts):
                    del rows[:-ROWS_A_SERIES]
        elif self._versions[at] < kline.version:
            self._versions[at], self._texts[at] = kline.version, self.format.row(kline)

    def _is_newest(self, forming: Kline) -> bool:
        known, last = self.forming, self._opens[-1:]
        if last and forming.open_time <= last[0]:
            return False
        rank = forming.open_time, forming.version
        return known is None or (known.open_time, known.version) < rank


@define(eq=False)
class Tail:
    """Follows series from their first read on; a subscriber of the bus."""

    _series: OrderedDict[SeriesName, TailSeries] = field(factory=OrderedDict, init=False)
    _grown: int = field(default=0, init=False)
    """How many rows came since they were counted."""

    def put(self, klines: Sequence[Kline]) -> None:
        """Take published rows: those of series that are followed."""
        if self._series:
            for kline in klines:
                if (series := self._series.get(kline[:3])) is not None:
                    series.take(kline)
                    self._grown += kline.is_closed
            if self._grown >= COUNTED_EVERY_ROWS:
                self.make_room()

    def of(self, name: SeriesName, written: RowFormat) -> TailSeries:
        """Return the tail of a series, which is followed from now on.

        Where its rows are `written` otherwise than so far, it begins anew.
        """
        series = self._series.get(name)
        if series is None or series.format != written:
            series = self._series[name] = TailSeries(Interval(name[2]), written)
        self._series.move_to_end(name)
        return series

    def make_room(self) -> None:
        """Drop series that were not read for longest, as long as there are too many rows."""
        self._grown = 0
        rows = sum(map(len, self._series.values()))
        while rows > ROWS and len(self._series) > 1:
            _, series = self._series.popitem(last=False)
            rows -= len(series)
