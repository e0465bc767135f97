"""The tail: newest rows of series that are read, as they pass on the bus or were read before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import trio
from attrs import define, field

from klineagent.core.kline import Kline

SeriesName = tuple[str, str, str]
"""Venue, symbol and interval."""

# As many rows as one klines request may ask for, and the forming one.
ROWS_A_SERIES = 1_501
TRIMMED_AT_ONCE = 100
# A row takes 700 bytes: 45 MB. The series that was not read for longest makes room.
SERIES = 40


def newest_states(klines: Iterable[Kline]) -> dict[int, Kline]:
    """Return the newest state of each candle of one series, by its open time. Pure."""
    rows: dict[int, Kline] = {}
    for kline in klines:
        _keep(rows, kline)
    return rows


def _keep(rows: dict[int, Kline], kline: Kline) -> None:
    """Keep a state in `rows`, unless it is outranked by the one that is there."""
    known = rows.get(kline.open_time)
    if known is None or known.version < kline.version:
        rows[kline.open_time] = kline


@define(eq=False)
class TailSeries:
    """Rows of one series: the newest state of each candle, but not of every candle."""

    since: float = field(factory=trio.current_time, init=False)
    """When the series was read first, and is followed since, by Trio's clock."""
    _rows: dict[int, Kline] = field(factory=dict, init=False)

    def take(self, kline: Kline) -> None:
        """Take a state, if it outranks the one that is there; the oldest candles make room."""
        _keep(self._rows, kline)
        if len(self._rows) > ROWS_A_SERIES + TRIMMED_AT_ONCE:
            newest = sorted(self._rows)[-ROWS_A_SERIES:]
            self._rows = {open_ms: self._rows[open_ms] for open_ms in newest}

    @property
    def has_forming(self) -> bool:
        """Whether the newest candle is one that was not closed when it passed."""
        return bool(self._rows) and not self._rows[max(self._rows)].is_closed

    def between(self, first_ms: int, end_ms: int) -> list[Kline]:
        """Return the rows that open in [`first_ms`, `end_ms`), ascending."""
        rows = self._rows.items()
        return [row for open_ms, row in sorted(rows) if first_ms <= open_ms < end_ms]


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
