"""What was imported into a store in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from attrs import define, field

from klineagent.storage.history import ImportRecord


class Faults(Protocol):
    """The faults that all calls of a store have."""

    async def begin(self) -> None:
        """Raise a fault before a call does anything."""

    def answer(self) -> None:
        """Raise a fault after a call has done its work."""


@define
class MemoryHistory:
    """See `HistoryTables`; files go in row by row."""

    _faults: Faults
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

    async def record(self, records: Sequence[ImportRecord]) -> None:
        """See `HistoryTables`."""
        await self._faults.begin()
        self.imports.update((each.path, each) for each in records)
        self._faults.answer()
