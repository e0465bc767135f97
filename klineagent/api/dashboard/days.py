"""The days that a series covers, a letter each. Pure; its cost grows with gaps and losses only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from attrs import frozen

from klineagent.core.interval import DAY_MS
from klineagent.series.ledger import Ledger
from klineagent.series.spans import Span


class Day(StrEnum):
    """What a day is like, of the candles that open in it; a longer one is of all days it spans."""

    NOT_RECORDED = "-"
    COMPLETE = "c"
    ABSENT = "a"
    HEALED = "h"
    IMPORTED = "i"
    FETCHING = "f"
    FAILING = "g"


@frozen
class DaysOfSeries:
    """The days of one series, and what is counted in them."""

    letters: str
    missing: int
    absent: int
    healed: int


def days_of(
    ledger: Ledger,
    first_day: int,
    days: int,
    now_ms: int,
    imported: Sequence[tuple[int, int]] = (),
) -> DaysOfSeries:
    """Return so many days from `first_day` on; days are counted from the epoch, in UTC.

    `imported` are ranges of days that files have filled, also before the ledger. A day of which
    only a part is covered is as that part is: the running one, and the first.
    """
    if not ledger.has_begun:
        unknown = [Day.NOT_RECORDED.value] * days
        _mark(unknown, imported, Day.IMPORTED, first_day)
        return DaysOfSeries("".join(unknown), 0, 0, 0)
    begin_ms = ledger.interval.open_at(first_day * DAY_MS)
    end_ms = ledger.interval.first_open((first_day + days) * DAY_MS)
    gaps = ledger.gaps.within(begin_ms, end_ms)
    absences = ledger.absences.within(begin_ms, end_ms)
    losses = ledger.losses.within(begin_ms, end_ms) if len(ledger.losses) else []
    healed = [each for each in losses if each.mark.came_ms is not None]
    first = min(max(ledger.first_ms // DAY_MS - first_day, 0), days)
    end = min(max(now_ms // DAY_MS - first_day + 1, first), days)
    letters = Day.NOT_RECORDED * first + Day.COMPLETE * (end - first)
    letters += Day.NOT_RECORDED * (days - end)
    if imported or gaps or absences or healed:
        marked = [*letters]
        _mark(marked, imported, Day.IMPORTED, first_day)
        # The last one counts: a day with several of these is as the worst of them.
        _mark(marked, healed, Day.HEALED, first_day)
        _mark(marked, absences, Day.ABSENT, first_day)
        _mark(marked, gaps, Day.FETCHING, first_day)
        _mark(marked, (each for each in gaps if each.mark.error), Day.FAILING, first_day)
        letters = "".join(marked)
    count = ledger.count
    return DaysOfSeries(letters, count(gaps), count(absences), count(healed))


def _mark(
    letters: list[str], spans: Iterable[Span[Any] | tuple[int, int]], day: Day, first_day: int
) -> None:
    for first_ms, end_ms, *_ in spans:
        first, last = first_ms // DAY_MS, (end_ms - 1) // DAY_MS
        for at in range(max(first - first_day, 0), min(last - first_day + 1, len(letters))):
            letters[at] = day
