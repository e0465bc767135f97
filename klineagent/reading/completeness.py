"""Whether all candles of a range are there, and what to say where they are not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from klineagent.core.errors import NotReadable
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Absent, Gap
from klineagent.series.spans import Span, Spans


def count_absent(ledger: Ledger, first_ms: int, end_ms: int) -> int:
    """Count candles in [`first_ms`, `end_ms`) that do not exist."""
    return ledger.count(_absences(ledger, first_ms, end_ms))


def count_lacking(
    ledger: Ledger,
    first_ms: int,
    end_ms: int,
    there: int,
    opens: Callable[[], Iterable[int]],
    *,
    listed: Iterable[Gap] = (),
) -> int:
    """Count candles in [`first_ms`, `end_ms`), which are due, that exist and are not there.

    So many closed ones on the grid are `there`, with these `opens`. Some were absent once; these
    must not stand for others. Nor must those in gaps that are `listed` in the answer.
    """
    due = ledger.interval.count(first_ms, end_ms)
    not_wanted: Spans[None] = Spans()
    spans: list[Span[Any]] = [*_absences(ledger, first_ms, end_ms), *listed]
    for each in spans:
        not_wanted.mark(max(each.first_ms, first_ms), min(each.end_ms, end_ms), None)
    if not_wanted:
        due -= ledger.count(not_wanted)
        there = sum(open_ms not in not_wanted for open_ms in opens())
    return max(0, due - there)


def missing(gaps: Iterable[Gap], ledger: Ledger, series: str) -> str:
    """Say how many candles are missing, and why they have not been fetched yet."""
    gaps = [*gaps]
    reasons = {gap.mark.error for gap in gaps if gap.mark.error}
    why = f": {'; '.join(sorted(reasons))}" if reasons else ""
    return f"{_candles(ledger.count(gaps), series)} missing and being fetched{why}"


def not_there(lacking: int, ledger: Ledger, first_ms: int, end_ms: int, series: str) -> NotReadable:
    """Return the refusal of a range of which so many candles are neither in memory nor stored."""
    refused = [each.mark.reason for each in ledger.absences.within(first_ms, end_ms)]
    if Absent.REFUSED in refused:
        return NotReadable(
            f"the database refuses candles of {series} in this range; see `klineagent spool list`"
        )
    return NotReadable(f"{_candles(lacking, series)} on the way to the database")


def _absences(ledger: Ledger, first_ms: int, end_ms: int) -> list[Span[Absence]]:
    """Return where in a range there are no candles; those that the store refuses exist."""
    absences = ledger.absences.within(first_ms, end_ms)
    return [each for each in absences if each.mark.reason is not Absent.REFUSED]


def _candles(count: int, series: str) -> str:
    candles, are = ("candle", "is") if count == 1 else ("candles", "are")
    return f"{count} {candles} of {series} {are}"
