"""The days that files of the archive have filled, by series; known without a query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import trio
from attrs import define, field

from klineagent.core.cooperate import in_portions
from klineagent.core.errors import StoreError
from klineagent.core.interval import Interval
from klineagent.core.kline import SeriesName
from klineagent.core.retry import Backoff
from klineagent.history.plan import Range, whole_ranges
from klineagent.series.spans import Spans
from klineagent.storage.history import FileState, ImportRecord
from klineagent.storage.store import Store

MOST_RECORDS = 50_000
"""The files that are read at the start, the newest: those of 400 series over ten years."""
LONGEST_RETRY_S = 60.0
# A millisecond or two of work between checkpoints.
RECORDS_AT_ONCE = 100


@define(eq=False)
class ImportedDays:
    """Remembers which days of a series have all candles of a file."""

    _days: dict[SeriesName, Spans[bool]] = field(
        factory=lambda: defaultdict[SeriesName, Spans[bool]](Spans), init=False
    )

    def within(self, series: SeriesName, first_ms: int, end_ms: int) -> Sequence[Range]:
        """Return the ranges of whole days in [`first_ms`, `end_ms`)."""
        days = self._days.get(series)
        found = [] if days is None else days.within(first_ms, end_ms)
        return [(each.first_ms, each.end_ms) for each in found]

    def note(self, record: ImportRecord) -> None:
        """Note the days of a file that was stored."""
        if record.state in {FileState.IMPORTED, FileState.SHORT}:
            days = self._days[record.venue, record.symbol, Interval(record.interval).value]
            for first_ms, end_ms in whole_ranges(record):
                days.mark(first_ms, end_ms, mark=True)

    async def load(self, store: Store) -> None:
        """Note what earlier runs and commands imported, as soon as the store answers."""
        backoff = Backoff(first_s=1, most_s=LONGEST_RETRY_S)
        while True:
            try:
                records = await store.history.newest_files(MOST_RECORDS)
            except StoreError:  # it is reported elsewhere that it is away
                await trio.sleep(backoff.after())
                continue
            await in_portions(self.note, records, at_once=RECORDS_AT_ONCE)
            return
