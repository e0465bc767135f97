"""What becomes of a file, by what a check of its rows found. Pure."""

from __future__ import annotations

from attrs import frozen

from klineagent.core.interval import DAY_MS, Interval
from klineagent.history.archive.files import ArchiveFile
from klineagent.storage.history import FileFacts, FileState, ImportRecord


@frozen
class FileRead:
    """A file that was read, and what is known of its content."""

    file: ArchiveFile
    sha256: str
    note: str = ""
    """What was not as it should be, and did not matter."""


def refused(file: ArchiveFile, reason: str, *, now_ms: int, sha256: str = "") -> ImportRecord:
    """Make the record of a file that was not imported."""
    return _record(FileRead(file, sha256), FileState.REFUSED, reason, FileFacts(), now_ms)


def judged(read: FileRead, facts: FileFacts, *, now_ms: int) -> ImportRecord:
    """Make the record of a file with such `facts`.

    A file with rows that contradict each other, or are no candles, is refused as a whole: other
    rows may be wrong, too. Rows of another time and rows off the grid are left out.
    """
    if reason := _reason_to_refuse(facts):
        return _record(read, FileState.REFUSED, reason, FileFacts(), now_ms)
    interval, file = read.file.series.interval, read.file
    expected = expected_by_day(interval, file.first_ms, file.end_ms)
    first_day = file.first_ms // DAY_MS
    missing = sum(
        max(0, count - facts.days.get(day, (0, 0))[0])
        for day, count in enumerate(expected, first_day)
    )
    reasons = [read.note] if read.note else []
    if missing:
        reasons.append(f"{missing} candles of its time are not in it")
    if facts.outside:
        reasons.append(f"{facts.outside} rows are of another time, and were left out")
    state = FileState.SHORT if missing else FileState.IMPORTED
    return _record(read, state, "; ".join(reasons), facts, now_ms)


def _reason_to_refuse(facts: FileFacts) -> str:
    if facts.unreadable:
        return facts.unreadable
    if facts.conflicts:
        return f"{facts.conflicts} candles stand in it more than once, with different values"
    if facts.impossible:
        return f"{facts.impossible} rows hold numbers that no candle can have"
    return ""


def _record(
    read: FileRead, state: FileState, reason: str, facts: FileFacts, now_ms: int
) -> ImportRecord:
    file = read.file
    days = range(file.first_ms // DAY_MS, file.end_ms // DAY_MS) if facts.days else ()
    return ImportRecord(
        path=file.path,
        venue=file.series.venue,
        symbol=file.series.symbol,
        interval=file.series.interval.value,
        state=state,
        reason=reason,
        sha256=read.sha256,
        etag=file.etag,
        published=file.published,
        bytes=file.bytes,
        rows=facts.rows,
        duplicates=facts.duplicates,
        off_grid=facts.off_grid,
        first_open=facts.first_open,
        last_open=facts.last_open,
        first_day=file.first_ms,
        day_rows=[facts.days.get(day, (0, 0))[0] for day in days],
        day_digests=[facts.days.get(day, (0, 0))[1] for day in days],
        imported_at=now_ms,
    )


def expected_by_day(interval: Interval, first_ms: int, end_ms: int) -> list[int]:
    """Count the candles that open on each day of [`first_ms`, `end_ms`), both midnights."""
    days = range(first_ms, end_ms, DAY_MS)
    return [_opens_between(interval, day_ms, day_ms + DAY_MS) for day_ms in days]


def _opens_between(interval: Interval, first_ms: int, end_ms: int) -> int:
    return interval.count(interval.first_open(first_ms), interval.first_open(end_ms))
