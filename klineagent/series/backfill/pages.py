"""Pages of candles: what to request for a gap, and what the answers prove. Pure.

A klines answer does not say which of its candles are closed. It may lag behind the stream, or be
wrong: empty, short, shifted. What one answer cannot prove is remembered until a second one, some
time later, confirms it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

from attrs import define, field, frozen

from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.rest import CandleAnswer, Page
from klineagent.exchange.symbols import TradingHalt
from klineagent.exchange.venues import Venue
from klineagent.exchange.wire import RestCandle
from klineagent.series.marks import Missing
from klineagent.series.spans import Spans

# The exchange's klines service may hang or lag for a quarter of an hour while all else is well. An
# answer within that time does not prove that the exchange has no such candle.
OUTAGE_MS = 20 * MINUTE_MS
_LONG_S = OUTAGE_MS / SECOND_MS
# A candle that opened off the grid shares its slot with the one before it, which was cut short: a
# page of one slot and one more for proof has room for both of each.
LEAST_ROWS = 4
# The least time between two answers that confirm each other.
AGREE_AFTER_S = 3.0
# The least time between two answers that both skip a candle before it counts as absent.
SKIPPED_AFTER_S = 60.0


@frozen
class Finding:
    """The candles and absences that an answer proves, together with earlier answers."""

    closed: list[RestCandle]
    """Final rows, ascending, including those that open off the grid."""
    absent: list[tuple[int, int]]
    """Ranges [first, end) of open times for which the exchange has no candle."""
    off_grid: list[int]
    """Open times without a candle of their own: a final candle opened a little later."""
    shown_until_ms: int
    """The answer shows all candles that the exchange had before this open time."""
    is_empty: bool
    """Whether the answer was valid and had no candle."""
    is_whole: bool
    """Whether no row had to be left out; otherwise the answer proves no absence."""


@frozen(kw_only=True)
class Known:
    """Facts about a series that an answer is read with."""

    has_every_candle: bool
    """See `Venue.has_every_candle`."""
    trades: bool
    """Whether the symbol trades now."""
    newest_ms: int
    """The newest known open time; an answer without it may be an old one."""
    halt: TradingHalt | None = None
    """When the symbol did not trade: no candle need have opened then."""


def page_of(first_ms: int, end_ms: int, interval: Interval, venue: Venue) -> Page:
    """Return the request for a gap: as many candles as are cheap, and one more for proof."""
    slots = min(interval.count(first_ms, end_ms) + 1, venue.klines_page)
    # The page covers the whole last slot: candles off the grid open anywhere within it.
    last_ms = interval.shifted(first_ms, slots) - 1
    if venue.klines_window_ms is not None and last_ms > first_ms + venue.klines_window_ms:
        last_ms = first_ms + venue.klines_window_ms
        slots = interval.count(first_ms, interval.open_at(last_ms)) + 1
    return Page(first_ms, last_ms, max(slots, LEAST_ROWS))


def search_of(first_ms: int, end_ms: int, now_ms: int, interval: Interval, venue: Venue) -> Page:
    """Return the request for a gap whose last answer was empty.

    On a venue with a candle in every interval the symbol was probably listed later, so the end of
    the gap is requested. On others a halt may last for weeks: the first candles since its beginning
    are requested, whenever they opened.
    """
    if not venue.has_every_candle:
        limit = min(interval.count(first_ms, end_ms) + 1, venue.klines_page)
        last_ms = max(end_ms, interval.next_open(interval.open_at(now_ms))) - 1
        return Page(first_ms, last_ms, max(limit, LEAST_ROWS))
    count = venue.klines_page - 1
    if venue.klines_window_ms is not None:
        earliest_ms = interval.first_open(max(0, end_ms - venue.klines_window_ms))
        count = min(count, interval.count(earliest_ms, end_ms) - 1)
    return page_of(max(first_ms, interval.shifted(end_ms, -count)), end_ms, interval, venue)


@frozen
class _Sighting:
    """A row that needs a second answer, and since when answers show it unchanged."""

    row: RestCandle
    since: float


@frozen
class _Skipped:
    """Since when answers skip a candle, and for how long they must to prove its absence."""

    after_s: float
    since: float


@define(eq=False)
class Evidence:
    """Remembers what answers about one series said that no single one proves.

    It grows with the gaps that were requested, by at most the rows of one page each.
    """

    _interval: Interval
    _rows: dict[int, _Sighting] = field(factory=dict, init=False)
    """The sightings by open time."""
    _skipped: Spans[_Skipped] = field(factory=Spans, init=False)

    def is_doubtful(self, first_ms: int, end_ms: int) -> bool:
        """Whether a second answer can settle any candle in [`first_ms`, `end_ms`)."""
        return self.has_rows(first_ms, end_ms) or bool(self._skipped.within(first_ms, end_ms))

    def has_rows(self, first_ms: int, end_ms: int) -> bool:
        """Whether a second answer can confirm a row in [`first_ms`, `end_ms`)."""
        return any(first_ms <= open_ms < end_ms for open_ms in self._rows)

    def is_skipped(self, first_ms: int, end_ms: int) -> bool:
        """Whether further answers can prove that all of [`first_ms`, `end_ms`) are absent."""
        skipped = self._skipped.within(first_ms, end_ms)
        return sum(each.end_ms - each.first_ms for each in skipped) == end_ms - first_ms

    def proven_at(self, first_ms: int, end_ms: int) -> float:
        """Return when another answer without them can prove the first absence; inf for never."""
        skipped = self._skipped.within(first_ms, end_ms)
        return min((each.mark.since + each.mark.after_s for each in skipped), default=math.inf)

    def forget_but(self, gaps: Spans[Missing]) -> None:
        """Forget everything that is not in `gaps`."""
        self._rows = {at: each for at, each in self._rows.items() if at in gaps}
        skipped: Spans[_Skipped] = Spans()
        for each in self._skipped:
            for gap in gaps.within(each.first_ms, each.end_ms):
                skipped.mark(gap.first_ms, gap.end_ms, each.mark)
        self._skipped = skipped

    def read(self, page: Page, answer: CandleAnswer, known: Known, at: float) -> Finding:
        """Read the `answer` to `page`, which came at `at` by Trio's clock.

        If rows were left out of the answer it proves no absence.
        """
        interval = self._interval
        rows = sorted(
            (row for row in answer.candles if page.first_ms <= row.open_time <= page.last_ms),
            key=lambda row: row.open_time,
        )
        newest_ms = rows[-1].open_time if rows else page.first_ms
        is_whole = not answer.odd and len({row.open_time for row in rows}) == len(rows)
        closed: list[RestCandle] = []
        off_grid: list[int] = []
        taken: list[int] = []
        sightings: dict[int, _Sighting] = {}
        for slot_ms, group in groupby(rows, key=lambda row: interval.open_at(row.open_time)):
            taken.append(slot_ms)
            in_slot = list(group)
            over = [row for row in in_slot if self._is_over(row, newest_ms, answer, known)]
            seen = {row.open_time: self._sighting(row, at) for row in over}
            # If a candle opened off the grid two share a slot: both are final, or neither is.
            if len(seen) == len(in_slot) and all(
                self._is_proven(each, newest_ms, at) for each in seen.values()
            ):
                closed += in_slot
                if all(row.open_time != slot_ms for row in in_slot):
                    off_grid.append(slot_ms)
            else:
                sightings |= seen
        end_ms = interval.next_open(interval.open_at(page.last_ms))
        self._rows = sightings | {
            open_ms: each
            for open_ms, each in self._rows.items()
            if not page.first_ms <= open_ms < end_ms
        }
        shown_until_ms = (
            interval.open_at(newest_ms)
            if len(answer.candles) + answer.odd >= page.limit
            else end_ms
        )
        for slot_ms in taken:
            self._skipped.clear(slot_ms, interval.next_open(slot_ms))
        absent: list[tuple[int, int]] = []
        if is_whole:
            absent = self._absent(page.first_ms, taken, shown_until_ms, known, at)
        return Finding(closed, absent, off_grid, shown_until_ms, not rows and is_whole, is_whole)

    def _is_regular(self, row: RestCandle) -> bool:
        open_ms, interval = row.open_time, self._interval
        return interval.open_at(open_ms) == open_ms and row.close_time == interval.close_of(open_ms)

    def _is_over(self, row: RestCandle, newest_ms: int, answer: CandleAnswer, known: Known) -> bool:
        """Whether the candle of `row` is over, if the answer is true."""
        if row.open_time < newest_ms:
            return True
        # It is the last row. If a later candle is known, or must exist, the answer is an old one.
        if known.newest_ms > row.open_time or (known.has_every_candle and known.trades):
            return False
        closed_ms = max(row.close_time + 1, self._interval.next_open(row.open_time))
        return answer.asked_at_ms >= closed_ms + OUTAGE_MS

    def _is_proven(self, seen: _Sighting, newest_ms: int, at: float) -> bool:
        """Whether a candle that is over is final: it needs no second answer, or has got one."""
        has_successor = newest_ms >= self._interval.next_open(seen.row.open_time)
        if has_successor and self._is_regular(seen.row):
            return True
        return at - seen.since >= AGREE_AFTER_S

    def _sighting(self, row: RestCandle, at: float) -> _Sighting:
        before = self._rows.get(row.open_time)
        return before if before is not None and before.row == row else _Sighting(row, at)

    def _absent(
        self, first_ms: int, taken: Iterable[int], shown_until_ms: int, known: Known, at: float
    ) -> list[tuple[int, int]]:
        """Return what in [`first_ms`, `shown_until_ms`) was skipped long enough to be absent."""
        next_open, absent = self._interval.next_open, []
        expected_ms = first_ms
        for slot_ms in taken:
            if expected_ms < slot_ms and not known.has_every_candle:
                absent += self._skip(expected_ms, slot_ms, SKIPPED_AFTER_S, at)
            elif expected_ms < slot_ms:
                # Every candle exists, except during a halt, or if it was skipped during one before.
                if known.halt is not None:
                    absent += self._skip_halt(known.halt, expected_ms, slot_ms, at)
                for each in self._skipped.within(expected_ms, slot_ms):
                    absent += self._skip(each.first_ms, each.end_ms, each.mark.after_s, at)
            expected_ms = next_open(slot_ms)
        # Candles after the last row are proven absent only if the symbol does not trade any more.
        expected_ms = max(expected_ms, next_open(self._interval.open_at(known.newest_ms)))
        if expected_ms < shown_until_ms and not known.trades:
            absent += self._skip(expected_ms, shown_until_ms, _LONG_S, at)
        return absent

    def _skip_halt(
        self, halt: TradingHalt, first_ms: int, end_ms: int, at: float
    ) -> list[tuple[int, int]]:
        """Call `_skip` for the part of [`first_ms`, `end_ms`) that lies in `halt`."""
        first_ms = max(first_ms, self._interval.first_open(halt.since_ms))
        end_ms = min(end_ms, self._interval.first_open(halt.until_ms))
        return self._skip(first_ms, end_ms, _LONG_S, at) if first_ms < end_ms else []

    def _skip(self, first_ms: int, end_ms: int, after_s: float, at: float) -> list[tuple[int, int]]:
        """Note that [`first_ms`, `end_ms`) is skipped; return what was skipped `after_s` ago."""
        before = self._skipped.clear(first_ms, end_ms)
        self._skipped.mark(first_ms, end_ms, _Skipped(after_s, at))
        absent = []
        for each in before:
            if each.mark.after_s != after_s:
                continue
            if at - each.mark.since >= after_s:
                self._skipped.clear(each.first_ms, each.end_ms)
                absent.append((each.first_ms, each.end_ms))
            else:
                self._skipped.mark(*each)
        return absent
