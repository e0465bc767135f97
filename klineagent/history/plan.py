"""What to take from the archive for a series, rung by rung, and what is still missing then. Pure.

months that lie within the range -> days of months that are short, refused or not
published -> the exchange for what is still missing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from attrs import define, field, frozen

from klineagent.core.interval import DAY_MS, Interval
from klineagent.history.archive.files import (
    ArchivedSeries,
    ArchiveFile,
    FilePeriod,
    day_of,
    month_of,
    months_in,
)
from klineagent.history.judging import expected_by_day
from klineagent.storage.history import FileState, ImportRecord

UNIT_ROWS = 180_000
"""The most candles of files that go in together: the engine takes some 200 MB for them."""
UNIT_FILES = 1_000

LATE_MS = 62 * DAY_MS
"""So late a file of a day may come; then its month has one."""

Range = tuple[int, int]
"""Open times from the first on, and before the second; in milliseconds."""


@define(kw_only=True)
class Ladder:
    """What the archive has of a series in a range of time, and what was taken of it."""

    series: ArchivedSeries
    first_ms: int
    """A midnight."""
    end_ms: int
    """The open time of the first candle that is not wanted."""
    months: dict[int, ArchiveFile] = field(factory=dict)
    """By their first midnight."""
    days: dict[int, ArchiveFile] = field(factory=dict)
    days_listed_from: int | None = None
    """From when on all files of days are listed; None if they are not."""
    records: dict[str, ImportRecord] = field(factory=dict)
    """By path."""

    @property
    def begins_ms(self) -> int | None:
        """The first open time that the archive has; None if it has nothing.

        A file that was not taken begins with its period at the earliest.
        """
        taken = [each for each in self.records.values() if each.day_rows]
        read = [(each.first_day, each.first_day + len(each.day_rows) * DAY_MS) for each in taken]
        opens = [each.first_open for each in taken]
        unread = (each for each in (*self.months, *self.days) if not is_within(each, read))
        return min([*opens, *unread], default=None)

    @property
    def files_end_ms(self) -> int | None:
        """Where the archive's files end; None if it has none."""
        ends = (each.end_ms for files in (self.months, self.days) for each in files.values())
        return max(ends, default=None)

    @property
    def has_days(self) -> bool:
        """Whether there are files of days at all: not of intervals that are longer."""
        return not is_longer_than_a_day(self.series.interval)

    @property
    def prefers_days(self) -> bool:
        """Whether a month is too much to go in at once: one of `1s` is 2.7 million candles."""
        return self.series.interval is Interval.S1

    def note(self, records: Iterable[ImportRecord]) -> None:
        """Take in what became of files."""
        self.records.update((each.path, each) for each in records)

    def clip(self, first_ms: int, end_ms: int) -> None:
        """Narrow the range to [`first_ms`, `end_ms`)."""
        self.first_ms = max(self.first_ms, first_ms)
        self.end_ms = min(self.end_ms, end_ms)

    def is_done(self, file: ArchiveFile) -> bool:
        """Whether `file` needs no download: it was imported, or is as bad as it was.

        A file that was imported whole and rewritten since is not imported again: its candles are
        stored, and differences are for an audit to find and a repair to write down.
        """
        record = self.records.get(file.path)
        if record is None:
            return False
        return record.state is FileState.IMPORTED or record.etag == file.etag

    def is_rewritten(self, file: ArchiveFile) -> bool:
        """Whether the archive has changed `file` since it was imported."""
        record = self.records.get(file.path)
        return record is not None and record.etag != file.etag

    def missing(self) -> list[Range]:
        """Return the ranges that no record shows to be whole, or not to exist."""
        return subtract(self._without_file(), self._absent())

    def _without_file(self) -> list[Range]:
        """Return the ranges of days that no record of a file shows to be whole."""
        files = (each for each in self.records.values() if each.state is not FileState.ABSENT)
        whole = (each for record in files for each in whole_ranges(record))
        return subtract([(self.first_ms, self.end_ms)], whole)

    def _absent(self) -> Iterator[Range]:
        for record in self.records.values():
            if record.state is FileState.ABSENT:
                yield from whole_ranges(record)

    def month_files(self) -> list[ArchiveFile]:
        """Return the files of months to take: those within the range of which candles are missing.

        A file that comes after its candles were found absent is taken, too.
        """
        if self.prefers_days:
            return []
        missing = self._without_file()
        return [
            self.months[month_ms]
            for month_ms, end_ms in self._usable_months()
            if not self.is_done(self.months[month_ms]) and overlaps(missing, month_ms, end_ms)
        ]

    def days_needed(self) -> list[int]:
        """Return the midnights of days to look for, as if months to take were whole."""
        if not self.has_days:
            return []
        taken = ((each.first_ms, each.end_ms) for each in self.month_files())
        late_ms = self.end_ms - LATE_MS
        absent = ((first, min(end, late_ms)) for first, end in self._absent() if first < late_ms)
        return [
            day_ms
            for first_ms, end_ms in subtract(self._without_file(), (*taken, *absent))
            for day_ms in range(day_of(first_ms), end_ms, DAY_MS)
            if day_ms + DAY_MS <= self.end_ms
        ]

    def day_files(self) -> list[ArchiveFile]:
        """Return the files of days to take; of `1s`, months where a day has none."""
        needed = self.days_needed()
        files = [self.days[day_ms] for day_ms in needed if day_ms in self.days]
        if self.prefers_days:
            months = {month_of(day_ms) for day_ms in needed if day_ms not in self.days}
            files += [self.months[month_ms] for month_ms in months if month_ms in self.months]
        return [each for each in files if not self.is_done(each)]

    def _usable_months(self) -> Iterator[Range]:
        for first_ms, end_ms in months_in(self.first_ms, self.end_ms):
            is_within = self.first_ms <= first_ms and end_ms <= self.end_ms
            if first_ms in self.months and (is_within or not self.has_days):
                yield first_ms, end_ms


def is_longer_than_a_day(interval: Interval) -> bool:
    """Whether the archive has only months of it."""
    return interval.length_at(0) > DAY_MS


def whole_ranges(record: ImportRecord) -> Iterator[Range]:
    """Yield the ranges that are whole, as `record` shows."""
    interval = Interval(record.interval)
    if record.state is FileState.ABSENT:
        yield record.first_open, interval.next_open(record.last_open)
    elif record.day_rows:
        end_ms = record.first_day + len(record.day_rows) * DAY_MS
        expected = expected_by_day(interval, record.first_day, end_ms)
        pairs = enumerate(zip(record.day_rows, expected, strict=True))
        for is_whole, days in groupby(pairs, key=lambda pair: pair[1][0] >= pair[1][1]):
            numbers = [number for number, _ in days]
            if is_whole:
                first_ms = record.first_day + numbers[0] * DAY_MS
                yield first_ms, record.first_day + (numbers[-1] + 1) * DAY_MS


def subtract(ranges: Iterable[Range], covered: Iterable[Range]) -> list[Range]:
    """Return what of ascending `ranges` is not `covered`."""
    taken = sorted(covered)
    left: list[Range] = []
    for first_ms, end_ms in ranges:
        at_ms = first_ms
        for begin_ms, over_ms in taken:
            if over_ms <= at_ms:
                continue
            if begin_ms >= end_ms:
                break
            if begin_ms > at_ms:
                left.append((at_ms, begin_ms))
            at_ms = over_ms
        if at_ms < end_ms:
            left.append((at_ms, end_ms))
    return left


def is_within(time_ms: int, ranges: Iterable[Range]) -> bool:
    """Whether any of `ranges` holds a time."""
    return any(first_ms <= time_ms < end_ms for first_ms, end_ms in ranges)


def overlaps(ranges: Sequence[Range], first_ms: int, end_ms: int) -> bool:
    """Whether any of `ranges` has a part in [`first_ms`, `end_ms`)."""
    return any(begin_ms < end_ms and first_ms < over_ms for begin_ms, over_ms in ranges)


@frozen
class FileUnit:
    """Files of one venue, interval and month that go in together."""

    venue: str
    interval: Interval
    files: tuple[ArchiveFile, ...]

    @property
    def bytes(self) -> int:
        """Their size in the archive."""
        return sum(each.bytes for each in self.files)


def units_of(files: Iterable[ArchiveFile], most_rows: int = UNIT_ROWS) -> list[FileUnit]:
    """Group files into units, newest month first.

    By month across symbols, never by symbol across months: each month is a partition, and an insert
    makes a part in each that it touches.
    """

    def place(file: ArchiveFile) -> tuple[int, str, int]:
        rank = [*Interval].index(file.series.interval)
        return -month_of(file.first_ms), file.series.venue, rank

    units: list[FileUnit] = []
    ordered = sorted(files, key=lambda each: (place(each), each.series.symbol, -each.first_ms))
    for _, together in groupby(ordered, key=place):
        unit: list[ArchiveFile] = []
        rows = 0
        for file in together:
            more = rows_of(file)
            if unit and (rows + more > most_rows or len(unit) == UNIT_FILES):
                units.append(_unit(unit))
                unit, rows = [], 0
            unit.append(file)
            rows += more
        units.append(_unit(unit))
    return units


def _unit(files: Sequence[ArchiveFile]) -> FileUnit:
    return FileUnit(files[0].series.venue, files[0].series.interval, tuple(files))


def rows_of(file: ArchiveFile) -> int:
    """Return how many candles a whole file of its period has."""
    interval = file.series.interval
    return interval.count(interval.first_open(file.first_ms), interval.first_open(file.end_ms))


def found_by_start(files: Iterable[ArchiveFile]) -> Mapping[int, ArchiveFile]:
    """Return files by their first midnight; of two names for one, the one with the longer name."""
    by_length = sorted(files, key=lambda each: len(each.path))
    return {each.first_ms: each for each in by_length}


def periods_of(interval: Interval) -> tuple[FilePeriod, ...]:
    """Return the kinds of files that the archive has of `interval`."""
    if is_longer_than_a_day(interval):
        return (FilePeriod.MONTHLY,)
    return (FilePeriod.MONTHLY, FilePeriod.DAILY)
