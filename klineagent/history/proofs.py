"""What answers of the exchange show of candles that no file has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from klineagent.core.interval import DAY_MS, Interval
from klineagent.exchange.rest import CandleAnswer, Page
from klineagent.exchange.wire import RestCandle
from klineagent.history.archive.files import ArchiveFile
from klineagent.history.plan import Ladder, Range, overlaps, subtract
from klineagent.series.backfill.pages import OUTAGE_MS
from klineagent.storage.history import FileState

NO_SOURCE = "neither the archive's file nor the exchange has them"
NOT_BEGUN = "neither the archive nor the exchange has a candle before"
OFF_GRID = "the exchange's candles opened off the grid then"
TWICE = "no file is published, and two answers of the exchange skip them"
UNKNOWN_SYMBOL = "no file has them, and the exchange does not know the symbol any more"
OTHER_SYMBOL = "no file has them, and the exchange's candles begin with its present listing"
NOT_TRADING = "no file has them, and the symbol does not trade"
WITHHELD = "the exchange does not show them"
UNREADABLE = "the exchange's answer has rows that cannot be read"
UNSETTLED = "no answer of the exchange settles them"


@frozen
class Shown:
    """What one answer shows of a gap."""

    closed: list[RestCandle]
    """Final candles in the gap, ascending, on the grid."""
    skipped: list[Range]
    """Open times that the answer has no candle for, though it has a later one."""
    off_grid: list[Range]
    """Those of them during which a candle opened off the grid."""
    unclear: list[Range]
    """Open times that a row was left out for, or none was sent: the answer does not say which."""
    until_ms: int
    """The gap is settled before this open time; later the answer shows nothing."""
    is_empty: bool
    is_whole: bool
    """Whether no row had to be left out; otherwise missing times are unclear, and not skipped."""


def shown_by(page: Page, answer: CandleAnswer, gap: Range, interval: Interval) -> Shown:
    """Read the answer to a page that begins with a gap.

    The last candle may be the one that forms now, so it only shows that those before are final;
    unless it closed so long ago that no outage of the exchange explains an answer as old.
    """
    first_ms, end_ms = gap
    rows = sorted(
        (row for row in answer.candles if page.first_ms <= row.open_time <= page.last_ms),
        key=lambda row: row.open_time,
    )
    is_whole = not answer.odd and len({row.open_time for row in rows}) == len(rows)
    if not rows:
        unclear = [] if is_whole else [gap]
        return Shown([], [], [], unclear, first_ms, is_empty=True, is_whole=is_whole)
    newest_ms = interval.open_at(rows[-1].open_time)
    is_over = answer.asked_at_ms >= interval.next_open(newest_ms) + OUTAGE_MS
    until_ms = min(interval.next_open(newest_ms) if is_over else newest_ms, end_ms)
    closed = [
        row
        for row in rows
        if row.open_time < until_ms and interval.open_at(row.open_time) == row.open_time
    ]
    taken = _slots((row.open_time for row in closed), interval)
    odd = {interval.open_at(row.open_time) for row in rows} - {row.open_time for row in closed}
    left = subtract([(first_ms, until_ms)], taken) if until_ms > first_ms else []
    off_grid = [each for each in _slots(sorted(odd), interval) if each[0] < until_ms]
    return Shown(
        closed,
        subtract(left, off_grid) if is_whole else [],
        off_grid if is_whole else [],
        [] if is_whole else left,
        until_ms,
        is_empty=False,
        is_whole=is_whole,
    )


def _slots(opens: Iterable[int], interval: Interval) -> list[Range]:
    return [(open_ms, interval.next_open(open_ms)) for open_ms in opens]


@frozen(kw_only=True)
class Witnesses:
    """What is known of a series besides the exchange's answers."""

    has_file: Callable[[int], bool]
    """Whether a file of the archive covers this open time, and was read."""
    begins_ms: int | None
    """The first open time of which a candle is known; None if there is none."""
    listed_ms: int
    """Since when the symbol is listed by this name, as far as the exchange says; or 0."""
    has_every_candle: bool
    """See `Venue.has_every_candle`: there no answer proves that a candle does not exist."""
    published_ms: int
    """The files of days that ended by then are published."""
    has_answered_before: bool = False
    """Whether an answer some time ago skipped the same candles."""


def reason_of_skipped(skipped: Range, known: Witnesses) -> str:
    """Return why a skipped range is absent; empty if one answer alone does not prove it."""
    first_ms, end_ms = skipped
    if known.begins_ms is None or end_ms <= known.begins_ms:
        return NOT_BEGUN
    if known.has_file(first_ms):
        return OTHER_SYMBOL if end_ms <= known.listed_ms else NO_SOURCE
    return TWICE if known.has_answered_before and may_be_absent(skipped, known) else ""


def may_be_absent(skipped: Range, known: Witnesses) -> bool:
    """Whether a second answer proves a skipped range that no file covers to be absent."""
    return not known.has_every_candle and skipped[1] <= known.published_ms


def after(shown: Shown, known: Witnesses) -> Witnesses:
    """Return what is known with an answer: the series begins with its first candle at the latest.

    After that candle nothing counts as before the beginning.
    """
    if shown.is_empty:
        return known
    first_ms = shown.closed[0].open_time if shown.closed else shown.until_ms
    begins_ms = first_ms if known.begins_ms is None else min(known.begins_ms, first_ms)
    return evolve(known, begins_ms=begins_ms)


def unused_files(ladder: Ladder, first_ms: int, end_ms: int) -> list[tuple[ArchiveFile, str]]:
    """Return the files listed for a range that may have candles of it, each with the reason.

    Those are the refused ones; and the ones that were not taken, where no other was.
    """
    taken = [
        (each.first_day, each.first_day + len(each.day_rows) * DAY_MS)
        for each in ladder.records.values()
        if each.state in (FileState.IMPORTED, FileState.SHORT)
    ]
    left = subtract([(first_ms, end_ms)], taken)
    unused = []
    for file in [*ladder.days.values(), *ladder.months.values()]:
        record = ladder.records.get(file.path)
        if file.first_ms >= end_ms or first_ms >= file.end_ms:
            continue
        if record is None and overlaps(left, file.first_ms, file.end_ms):
            unused.append((file, "not imported"))
        elif record is not None and record.state is FileState.REFUSED:
            unused.append((file, record.reason))
    return unused


def by_witness(skipped: Iterable[Range], known: Witnesses, interval: Interval) -> list[Range]:
    """Split ranges where a file begins or ends to cover them, and where the archive begins."""
    parts: list[Range] = []
    for first_ms, end_ms in skipped:
        mark: tuple[bool, bool] | None = None
        begin_ms = open_ms = first_ms
        while open_ms < end_ms:
            is_early = known.begins_ms is None or open_ms < known.begins_ms
            if mark is not None and (is_early, known.has_file(open_ms)) != mark:
                parts.append((begin_ms, open_ms))
                begin_ms = open_ms
            mark = (is_early, known.has_file(open_ms))
            # Files cover whole days.
            open_ms = _next_day(open_ms, interval)
        parts.append((begin_ms, end_ms))
    return parts


def _next_day(open_ms: int, interval: Interval) -> int:
    return max(
        interval.next_open(open_ms),
        interval.first_open(Interval.D1.next_open(Interval.D1.open_at(open_ms))),
    )
