"""An audit of what is stored: each imported day against the digest that its file had."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import define, frozen

from klineagent.core.interval import DAY_MS, Interval
from klineagent.history.archive.files import ArchivedSeries, months_in
from klineagent.history.judging import expected_by_day
from klineagent.history.plan import Range
from klineagent.storage.history import DayDigest, FileState, ImportRecord
from klineagent.storage.store import Store

# A month of 1m of so many is some 5 million candles: a second or two for a query.
SYMBOLS_AT_ONCE = 100


class DayFault(enum.StrEnum):
    """What is wrong with a day."""

    MISSING = "candles are missing that its file had"
    DIFFERENT = "candles differ from those of its file"


@frozen(kw_only=True)
class DayFinding:
    """A day on which what is stored is not what its file had."""

    series: ArchivedSeries
    day_ms: int
    fault: DayFault
    rows: int
    """The candles that are stored."""
    file_rows: int
    path: str
    sha256: str


@frozen(kw_only=True)
class AuditSummary:
    """What an audit has looked at, and what it has found."""

    series: int
    days: int
    candles: int
    findings: Sequence[DayFinding]


@frozen
class _FileDay:
    """A day as a file has it."""

    record: ImportRecord
    rows: int
    digest: int
    is_whole: bool


@define(kw_only=True, eq=False)
class Auditor:
    """Compares days that were imported with what the store shows; reads no file."""

    store: Store
    found: Callable[[DayFinding], None]

    async def audit(self, series: Iterable[ArchivedSeries], wanted: Range) -> AuditSummary:
        """Audit all imported days of these series that begin in a range.

        Raises:
            StoreError: the store cannot be read.
        """
        groups: dict[tuple[str, Interval], list[str]] = defaultdict(list)
        for each in series:
            groups[each.venue, each.interval].append(each.symbol)
        findings: list[DayFinding] = []
        candles = days = 0
        for (venue, interval), symbols in groups.items():
            for start in range(0, len(symbols), SYMBOLS_AT_ONCE):
                some = symbols[start : start + SYMBOLS_AT_ONCE]
                records = await self.store.history.records(venue, some, [interval.value])
                recorded = {
                    key: day
                    for key, day in days_of(records).items()
                    if wanted[0] <= key[1] * DAY_MS < wanted[1]
                }
                days += len(recorded)
                for month in _months(recorded):
                    shown = await self.store.history.day_digests(
                        venue, some, interval.value, *month
                    )
                    candles += sum(
                        each.rows for each in shown if (each.symbol, each.day) in recorded
                    )
                    findings += self._compared(recorded, shown, month)
        return AuditSummary(
            series=sum(map(len, groups.values())), days=days, candles=candles, findings=findings
        )

    def _compared(
        self, recorded: dict[tuple[str, int], _FileDay], shown: Iterable[DayDigest], month: Range
    ) -> Iterator[DayFinding]:
        by_day = {(each.symbol, each.day): each for each in shown}
        for (symbol, day), file_day in recorded.items():
            if not month[0] <= day * DAY_MS < month[1]:
                continue
            stored = by_day.get((symbol, day), DayDigest(symbol, day, 0, 0))
            if (fault := fault_of(file_day, stored)) is not None:
                record = file_day.record
                finding = DayFinding(
                    series=ArchivedSeries(record.venue, symbol, Interval(record.interval)),
                    day_ms=day * DAY_MS,
                    fault=fault,
                    rows=stored.rows,
                    file_rows=file_day.rows,
                    path=record.path,
                    sha256=record.sha256,
                )
                self.found(finding)
                yield finding


def days_of(records: Iterable[ImportRecord]) -> dict[tuple[str, int], _FileDay]:
    """Return each imported day by symbol and day, as the file has it that has most of it."""
    days: dict[tuple[str, int], _FileDay] = {}
    for record in records:
        if record.state not in {FileState.IMPORTED, FileState.SHORT} or not record.day_rows:
            continue
        end_ms = record.first_day + len(record.day_rows) * DAY_MS
        expected = expected_by_day(Interval(record.interval), record.first_day, end_ms)
        pairs = zip(record.day_rows, record.day_digests, expected, strict=True)
        for day, (rows, digest, most) in enumerate(pairs, record.first_day // DAY_MS):
            before = days.get((record.symbol, day))
            if rows and (before is None or before.rows < rows):
                days[record.symbol, day] = _FileDay(record, rows, digest, rows >= most)
    return days


def fault_of(file_day: _FileDay, stored: DayDigest) -> DayFault | None:
    """Return what is wrong with a day as it is stored.

    Of a day that its file had in part, the exchange had the rest: only its number can be compared.
    """
    if stored.rows < file_day.rows:
        return DayFault.MISSING
    is_comparable = file_day.is_whole or stored.rows == file_day.rows
    if is_comparable and stored.digest != file_day.digest:
        return DayFault.DIFFERENT
    return None


def _months(recorded: Iterable[tuple[str, int]]) -> list[Range]:
    days = {day for _, day in recorded}
    if not days:
        return []
    return [
        month
        for month in months_in(min(days) * DAY_MS, max(days) * DAY_MS + 1)
        if any(month[0] <= day * DAY_MS < month[1] for day in days)
    ]
