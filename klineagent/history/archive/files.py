"""Files of the public archive: their paths, and the time each covers. Pure.

data/{spot,futures/um,futures/cm}/{daily,monthly}/klines/SYMBOL/INTERVAL/
SYMBOL-INTERVAL-{YYYY-MM-DD,YYYY-MM}.zip, and beside it .zip.CHECKSUM
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from attrs import field, frozen

from klineagent.core.interval import DAY_MS, SECOND_MS, Interval

_FOLDERS = {"spot": "spot", "usdm": "futures/um", "coinm": "futures/cm"}
# By the archive's name where it has another one: names of folders may not differ in case alone.
_NAMES = {Interval.MO1: "1mo"}
# Some months have one digit.
_STEM = re.compile(r"-(\d{4})-(\d{1,2})(?:-(\d{1,2}))?\.zip$", re.ASCII)
CHECKSUM = ".CHECKSUM"
"""What the path of a file's checksum has more."""


class FilePeriod(enum.StrEnum):
    """How often a kind of files is published."""

    MONTHLY = "monthly"
    DAILY = "daily"


@frozen
class ArchivedSeries:
    """One series of one venue."""

    venue: str
    symbol: str
    interval: Interval

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol} {self.interval}"


@frozen(kw_only=True)
class ArchiveFile:
    """A file that the archive's listing names."""

    series: ArchivedSeries
    period: FilePeriod
    path: str
    first_ms: int
    end_ms: int
    """It covers [`first_ms`, `end_ms`): a day or a month, UTC."""
    bytes: int = 0
    etag: str = field(default="", eq=False)
    """The identity of its content: another one, if it was rewritten."""
    published: int = field(default=0, eq=False)
    """When it was last written, in milliseconds."""


def symbols_folder(venue: str, period: FilePeriod) -> str:
    """Return the folder that has a folder for each symbol."""
    return f"data/{_FOLDERS[venue]}/{period}/klines/"


def series_folder(series: ArchivedSeries, period: FilePeriod) -> str:
    """Return the folder of a series' files."""
    return f"{symbols_folder(series.venue, period)}{series.symbol}/{name_of(series.interval)}/"


def name_of(interval: Interval) -> str:
    """Return the archive's name of `interval`."""
    return _NAMES.get(interval, interval.value)


def day_path(series: ArchivedSeries, day_ms: int) -> str:
    """Return the path of the file of the day that begins at `day_ms`."""
    day = f"{datetime.fromtimestamp(day_ms / SECOND_MS, UTC):%Y-%m-%d}"
    name = name_of(series.interval)
    return f"{series_folder(series, FilePeriod.DAILY)}{series.symbol}-{name}-{day}.zip"


def file_named(
    series: ArchivedSeries, path: str, *, size: int, etag: str, published: int
) -> ArchiveFile | None:
    """Return the file of `series` at `path`, a key of its own folder; None if it is none."""
    name = f"{series.symbol}-{name_of(series.interval)}"
    if (found := _STEM.search(path)) is None:
        return None
    year, month, day = int(found[1]), int(found[2]), found[3]
    period = FilePeriod.MONTHLY if day is None else FilePeriod.DAILY
    if path[: found.start()] != series_folder(series, period) + name:
        return None
    try:
        first_ms = _midnight(year, month, int(day or 1))
    except ValueError:
        return None
    return ArchiveFile(
        series=series,
        period=period,
        path=path,
        first_ms=first_ms,
        end_ms=first_ms + DAY_MS if day is not None else month_end(first_ms),
        bytes=size,
        etag=etag,
        published=published,
    )


def _midnight(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * SECOND_MS


def month_of(time_ms: int) -> int:
    """Return the midnight with which the month of `time_ms` begins."""
    return Interval.MO1.open_at(time_ms)


def month_end(time_ms: int) -> int:
    """Return the midnight with which the month of `time_ms` ends."""
    return Interval.MO1.next_open(Interval.MO1.open_at(time_ms))


def months_in(first_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Yield the months that touch [`first_ms`, `end_ms`), as ranges."""
    month_ms = month_of(first_ms)
    while month_ms < end_ms:
        yield month_ms, month_end(month_ms)
        month_ms = month_end(month_ms)


def day_of(time_ms: int) -> int:
    """Return the midnight with which the day of `time_ms` begins."""
    return time_ms - time_ms % DAY_MS
