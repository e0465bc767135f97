"""A fault of files: which it strikes, and what it does to them. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import date, timedelta
from typing import TypedDict

from attrs import frozen

from klineagent.twin.archive.faults.rows import Distortion
from klineagent.twin.archive.key import Cadence, TwinFile, day_of, interval_of, number_of
from klineagent.twin.archive.text import FileRow
from klineagent.twin.interval import DAY_MS

_CERTAIN = 2**64


class Where(TypedDict, total=False):
    """Which files a fault strikes, and for how long."""

    share: float
    """The share of files, or of days where a fault is one of days; all by default."""
    venue: str
    symbol: str
    interval: str
    """As the archive names it."""
    days: Collection[date]
    """Only these days, or the files that cover one of them."""
    for_days: float
    """For how long after its publication a file is struck, until it is rewritten; or for ever."""


@frozen(kw_only=True)
class ArchiveFault:
    """A fault of files: what it does, and whom it strikes."""

    kind: str
    number: str
    """Makes its dice unlike those of any other."""
    where: Where
    began_ms: int
    cadence: Cadence | None = None
    """The only kind of files that it strikes."""
    by_day: bool = False
    """Whether it strikes days rather than files."""
    distort: Distortion | None = None
    hides: bool = False
    """Whether its files are not published."""
    spoils_zip: bool = False
    """Whether another thing than a zip stands in its place."""
    has_checksum: bool = True
    wrong_checksum: bool = False
    header: bool | None = None
    """Whether its files have a header; None: as they should."""
    microseconds: bool = False

    @property
    def is_of_checksum(self) -> bool:
        """Whether it leaves the zip as it is."""
        return self.wrong_checksum or not self.has_checksum

    def strikes(self, file: TwinFile) -> bool:
        """Whether it strikes a file at any time."""
        where = self.where
        if (
            self.cadence not in {None, file.cadence}
            or where.get("venue") not in {None, file.venue_name}
            or where.get("symbol") not in {None, file.symbol}
            or ("interval" in where and interval_of(where["interval"]) is not file.interval)
        ):
            return False
        days = _days_of(file)
        if self.by_day:
            return any(self._strikes_day(file, day) for day in days)
        chosen = where.get("days", days)
        return any(day in chosen for day in days) and self._happens(file.path)

    def until_ms(self, published_ms: int) -> float:
        """When a file that was published at a time is rewritten."""
        for_days = self.where.get("for_days")
        return float("inf") if for_days is None else published_ms + round(for_days * DAY_MS)

    def apply(self, file: TwinFile, true: list[FileRow]) -> list[FileRow]:
        """The rows of a file that it strikes."""
        if self.distort is None:
            return true
        if not self.by_day:
            return self.distort(true, self._dice(file.path))
        by_day: dict[date, list[FileRow]] = {}
        for row in true:
            by_day.setdefault(day_of(row.candle.open_time), []).append(row)
        return [
            row
            for day, rows in by_day.items()
            for row in (
                self.distort(rows, self._dice(_name_of(file, day)))
                if self._strikes_day(file, day)
                else rows
            )
        ]

    def _strikes_day(self, file: TwinFile, day: date) -> bool:
        chosen = self.where.get("days")
        return (chosen is None or day in chosen) and self._happens(_name_of(file, day))

    def _happens(self, name: str) -> bool:
        return number_of(f"{self.number}/{name}") < self.where.get("share", 1.0) * _CERTAIN

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self.number}/{name}")  # noqa: S311 - no secret


@frozen
class PublishedFile:
    """A file as it is at a time."""

    file: TwinFile
    modified_ms: int
    summed_ms: int
    """When its checksum was modified."""
    faults: tuple[ArchiveFault, ...]
    """Those that it has."""

    @property
    def version(self) -> str:
        """Differs whenever the zip may."""
        names = ",".join(fault.number for fault in self.faults if not fault.is_of_checksum)
        return f"{self.file.path}/{self.modified_ms}/{names}"


def _name_of(file: TwinFile, day: date) -> str:
    """A day of a series, the same in its daily and monthly files."""
    return f"{file.venue_name}/{file.symbol}/{file.interval}/{day}"


def _days_of(file: TwinFile) -> list[date]:
    """The days that a file covers."""
    count = (file.end_ms - file.start_ms) // DAY_MS
    return [file.first_day + timedelta(days=each) for each in range(count)]
