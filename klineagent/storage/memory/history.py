"""What was imported into a store in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from attrs import define, field

from klineagent.core.interval import DAY_MS
from klineagent.core.kline import Key, Kline
from klineagent.storage.digests import DIGESTED, digest_sum
from klineagent.storage.history import DayDigest, FileState, ImportRecord


class FaultyRows(Protocol):
    """The rows of a store, and the faults that all its calls have."""

    klines: dict[Key, Kline]

    async def begin(self) -> None:
        """Raise a fault before a call does anything."""

    def answer(self) -> None:
        """Raise a fault after a call has done its work."""


@define
class MemoryHistory:
    """See `HistoryTables`; files go in row by row."""

    _faults: FaultyRows
    imports: dict[str, ImportRecord] = field(factory=dict)
    """Table `imports`, by path."""
    loader: None = field(default=None, init=False)

    async def records(
        self, venue: str, symbols: Collection[str], intervals: Collection[str]
    ) -> list[ImportRecord]:
        """See `HistoryTables`."""
        await self._faults.begin()
        found = [
            each
            for _, each in sorted(self.imports.items())
            if each.venue == venue and each.symbol in symbols and each.interval in intervals
        ]
        self._faults.answer()
        return found

    async def newest_files(self, most: int) -> list[ImportRecord]:
        """See `HistoryTables`."""
        await self._faults.begin()
        stored = {FileState.IMPORTED, FileState.SHORT}
        found = [each for each in self.imports.values() if each.state in stored]
        self._faults.answer()
        return sorted(found, key=lambda each: each.first_day, reverse=True)[:most]

    async def day_digests(
        self, venue: str, symbols: Collection[str], interval: str, first_ms: int, end_ms: int
    ) -> list[DayDigest]:
        """See `HistoryTables`."""
        await self._faults.begin()
        days: dict[tuple[str, int], list[Kline]] = {}
        for kline in self._faults.klines.values():
            is_wanted = (kline.venue, kline.interval) == (venue, interval) and kline.is_closed
            if is_wanted and kline.symbol in symbols and first_ms <= kline.open_time < end_ms:
                days.setdefault((kline.symbol, kline.open_time // DAY_MS), []).append(kline)
        self._faults.answer()
        return [
            DayDigest(symbol, day, len(klines), digest_sum(map(_digested, klines)))
            for (symbol, day), klines in days.items()
        ]

    async def record(self, records: Sequence[ImportRecord]) -> None:
        """See `HistoryTables`."""
        await self._faults.begin()
        self.imports.update((each.path, each) for each in records)
        self._faults.answer()


def _digested(kline: Kline) -> tuple[int, list[float]]:
    return kline.open_time, [getattr(kline, name) for name in DIGESTED]
