"""Suspect rows: parts of refused batches that are still to be tried. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from attrs import define, field

from klineagent.storage.store import Batch
from klineagent.storage.writing.refused import TableSeries, table_series_of


@define(eq=False)
class Suspects:
    """A queue of suspect parts, with counts of their rows."""

    rows: int = field(default=0, init=False)
    series: Counter[TableSeries] = field(factory=Counter, init=False)
    """The number of rows of each series."""
    _parts: deque[Batch] = field(factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._parts)

    @property
    def first(self) -> Batch:
        """The part to try next."""
        return self._parts[0]

    def add(self, part: Batch) -> None:
        """Append `part`."""
        self._parts.append(part)
        self.rows += len(part.klines)
        self.series.update(table_series_of(row, part.table) for row in part.klines)

    def put_last_first(self) -> None:
        """Move the last part to the front."""
        self._parts.rotate(1)

    def remove_first(self) -> None:
        """Remove the first part, which has been answered."""
        part = self._parts.popleft()
        self.rows -= len(part.klines)
        for row in part.klines:
            series = table_series_of(row, part.table)
            self.series[series] -= 1
            if not self.series[series]:
                del self.series[series]

    def clear(self) -> None:
        """Remove all parts."""
        self._parts.clear()
        self.series.clear()
        self.rows = 0
