"""What a store keeps of imported files and corrected candles, and how it takes files in."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from attrs import field, frozen


class FileState(enum.StrEnum):
    """What became of a file of the archive, or of a range that no file has."""

    IMPORTED = "imported"
    """All of its candles are stored, and none is missing in its period."""
    SHORT = "short"
    """All of its candles are stored; its period has more."""
    REFUSED = "refused"
    """It is damaged or contradicts itself: nothing of it was stored."""
    ABSENT = "absent"
    """No file: candles that neither the archive nor the exchange has."""


def _as_tuple(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(numbers)


@frozen(kw_only=True)
class ImportRecord:
    """A row of table `imports`: one file, or one range of absent candles, of one series."""

    path: str
    """The file's path in the archive; of absent candles, a name for their range."""
    venue: str
    symbol: str
    interval: str
    state: FileState = field(converter=FileState)
    reason: str = ""
    """Why it is refused, short or absent; empty if there is nothing to say."""
    sha256: str = ""
    etag: str = ""
    """The identity of the file's content by the archive's listing."""
    published: int = 0
    """When the archive last changed the file, in milliseconds."""
    bytes: int = 0
    rows: int = 0
    """The candles in the file, or the number of absent ones."""
    duplicates: int = 0
    """Rows that repeat another."""
    off_grid: int = 0
    """Rows that open off the grid: they are not stored."""
    first_open: int = 0
    last_open: int = 0
    first_day: int = 0
    """Midnight of the first day of the file's period, in milliseconds."""
    day_rows: tuple[int, ...] = field(default=(), converter=_as_tuple)
    """The number of candles of each day of the file's period."""
    day_digests: tuple[int, ...] = field(default=(), converter=_as_tuple)
    """The sum of their digests, see `storage/digests.py`."""
    imported_at: int = 0


@frozen
class DayDigest:
    """The closed candles stored of a series on one day: their number, and the sum of digests."""

    symbol: str
    day: int
    """Since the epoch."""
    rows: int
    digest: int


@frozen(kw_only=True)
class FileFacts:
    """What a check of a file's rows found."""

    unreadable: str = ""
    """Why the rows cannot be read; then nothing else is known."""
    rows: int = 0
    """The candles in the file's period and on the grid, each counted once."""
    duplicates: int = 0
    conflicts: int = 0
    """Open times of which two rows differ."""
    outside: int = 0
    """Rows outside of the file's period."""
    off_grid: int = 0
    impossible: int = 0
    """Rows with numbers that no candle can have."""
    first_open: int = 0
    last_open: int = 0
    days: Mapping[int, tuple[int, int]] = field(factory=dict)
    """The number of candles and the sum of their digests, by day since the epoch."""


@frozen
class PackedFile:
    """The CSV of one file of the archive, compressed as gzip has it."""

    symbol: str
    first_ms: int
    end_ms: int
    """The file's period is [`first_ms`, `end_ms`)."""
    gz: bytes = field(repr=False)
    has_header: bool


@frozen
class Unit:
    """Files of one venue and interval that go in together."""

    venue: str
    interval: str
    files: Sequence[PackedFile]


Judge = Callable[[int, FileFacts], ImportRecord]
"""Decides what becomes of the file with a number in its unit, by its facts."""


@frozen
class Loaded:
    """What became of a file, and how many of its candles were new to the store."""

    record: ImportRecord
    stored: int


class Loader(Protocol):
    """Reads, checks and stores files by the database's own means."""

    async def load(self, unit: Unit, judge: Judge) -> list[Loaded]:
        """Store the candles of files that are not refused, and then their records.

        Candles that are stored as closed stay as they are. No record is ever stored without the
        rows of its file; what was interrupted may be done again.

        Raises:
            StoreError: some or all of it may not have been stored.
        """


class HistoryTables(Protocol):
    """Tables `imports` and `corrections` of a store, made when they are first written to."""

    @property
    def loader(self) -> Loader | None:
        """Takes files in; None if the store only takes rows."""

    async def records(
        self, venue: str, symbols: Collection[str], intervals: Collection[str]
    ) -> list[ImportRecord]:
        """Read the newest record of each path of these series, by path.

        Raises:
            StoreError: they cannot be read.
        """

    async def newest_files(self, most: int) -> list[ImportRecord]:
        """Read the records of stored files, at most so many, those of the newest days first.

        Only their series, states, paths and rows of each day are read; other fields are empty.

        Raises:
            StoreError: they cannot be read.
        """

    async def day_digests(
        self, venue: str, symbols: Collection[str], interval: str, first_ms: int, end_ms: int
    ) -> list[DayDigest]:
        """Add up what is stored of these series in [`first_ms`, `end_ms`), a row for each day.

        Raises:
            StoreError: it cannot be read.
        """

    async def record(self, records: Sequence[ImportRecord]) -> None:
        """Store `records`; each replaces an earlier one of its path.

        Raises:
            StoreError: they may not have been stored.
        """
