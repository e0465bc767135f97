"""Rows of which some were refused, or will be: the parts that are still to be tried. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from attrs import define, field

from klineagent.storage.store import Batch
from klineagent.storage.writing.refused import TableSeries, table_series_of


@define(eq=False)
class Suspects:
    """A queue of parts that knows its rows and their series."""

    rows: int = field(default=0, init=False)
    series: Counter[TableSeries] = field(factory=Counter, init=False)
    """How many rows of each series there are."""
    _parts: deque[Batch] = field(factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._parts)

    @property
    def first(self) -> Batch:
        """The part to be tried next."""
        return self._parts[0]

    def add(self, part: Batch) -> None:
        """Put `part` behind all others."""
        self._parts.append(part)
        self.rows += len(part.klines)
        self.series.update(table_series_of(row, part.table) for row in part.klines)

    def put_last_first(self) -> None:
        """Let the part that was added last be the next."""
        self._parts.rotate(1)

    def remove_first(self) -> None:
        """It is answered for."""
        part = self._parts.popleft()
        self.rows -= len(part.klines)
        for row in part.klines:
            series = table_series_of(row, part.table)
            self.series[series] -= 1
            if not self.series[series]:
                del self.series[series]

    def clear(self) -> None:
        """Forget all parts."""
        self._parts.clear()
        self.series.clear()
        self.rows = 0
