"""The tail: the newest rows of series that are read, as they pass on the bus."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, field

from klineagent.core.kline import Kline

SeriesName = tuple[str, str, str]
"""Venue, symbol and interval."""

# As many rows as one klines request may ask for, and the forming one.
ROWS_A_SERIES = 1_501
TRIMMED_AT_ONCE = 100
# A row takes 700 bytes: 45 MB. The series that was not read for longest makes room.
SERIES = 40


@define(eq=False)
class TailSeries:
    """The newest states of the newest candles of one series."""

    begun: bool = field(default=False, init=False)
    """Whether the rows that the store has were laid under those that passed."""
    _rows: dict[int, Kline] = field(factory=dict, init=False)

    def take(self, kline: Kline) -> None:
        """Take a state, if it outranks the one that is there."""
        known = self._rows.get(kline.open_time)
        if known is None or known.version < kline.version:
            self._rows[kline.open_time] = kline
        if len(self._rows) > ROWS_A_SERIES + TRIMMED_AT_ONCE:
            newest = sorted(self._rows)[-ROWS_A_SERIES:]
            self._rows = {open_ms: self._rows[open_ms] for open_ms in newest}

    @property
    def has_forming(self) -> bool:
        """Whether the newest candle is one that was not closed when it passed."""
        return bool(self._rows) and not self._rows[max(self._rows)].is_closed

    @property
    def first_ms(self) -> int | None:
        """The oldest open time of which there is a row; None without rows."""
        return min(self._rows, default=None)

    def between(self, first_ms: int, end_ms: int) -> dict[int, Kline]:
        """Return the rows that open in [`first_ms`, `end_ms`)."""
        return {open_ms: row for open_ms, row in self._rows.items() if first_ms <= open_ms < end_ms}


@define(eq=False)
class Tail:
    """Follows series from their first read on; a subscriber of the bus."""

    _series: OrderedDict[SeriesName, TailSeries] = field(factory=OrderedDict, init=False)

    def put(self, klines: Sequence[Kline]) -> None:
        """Take published rows: those of series that are followed."""
        if self._series:
            for kline in klines:
                if (series := self._series.get(kline[:3])) is not None:
                    series.take(kline)

    def of(self, name: SeriesName) -> TailSeries:
        """Return the tail of a series, which is followed from now on."""
        if (series := self._series.get(name)) is None:
            series = self._series[name] = TailSeries()
            if len(self._series) > SERIES:
                self._series.popitem(last=False)
        self._series.move_to_end(name)
        return series
