"""Asks the exchange for the candles that no file has, and for the newest ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import trio
from attrs import define, evolve, field, frozen

from klineagent.core.cooperate import in_workers
from klineagent.core.errors import ExchangeError, ExchangeUnreachable
from klineagent.core.interval import DAY_MS, Interval
from klineagent.core.kline import Kline
from klineagent.exchange.rest import Page
from klineagent.exchange.venues import Venue
from klineagent.exchange.wire import RestCandle
from klineagent.history.archive.files import ArchivedSeries, day_of
from klineagent.history.events import Filled, Hole, Report
from klineagent.history.exchanges import VenueExchange
from klineagent.history.loading import BATCH_ROWS, Turn, insert_all
from klineagent.history.patience import once_there
from klineagent.history.plan import Ladder, Range, subtract
from klineagent.history.proofs import (
    NOT_BEGUN,
    NOT_TRADING,
    OFF_GRID,
    UNKNOWN_SYMBOL,
    UNREADABLE,
    UNSETTLED,
    WITHHELD,
    Shown,
    Witnesses,
    after,
    by_witness,
    may_be_absent,
    reason_of_skipped,
    shown_by,
    unused_files,
)
from klineagent.series.backfill.pages import LEAST_ROWS, OUTAGE_MS, SKIPPED_AFTER_S, page_of
from klineagent.storage.history import FileState, ImportRecord
from klineagent.storage.store import Store

# Series fetched at a time: as many requests as the budget sends at once.
AT_ONCE = 10
_TRIES = 8
# A file of a day comes some hours after it, and was a day late at times.
PUBLISHED_AFTER_MS = 2 * DAY_MS


@frozen
class _Doubt:
    """A range that one answer skipped, and no file covers: a second answer decides."""

    ladder: Ladder
    range: Range
    at: float
    known: Witnesses


@define(kw_only=True, eq=False)
class Filler:
    """Fills what files leave, series by series, and writes down what does not exist."""

    exchanges: Mapping[str, VenueExchange]
    store: Store
    report: Report
    now_ms: Callable[[], int]
    turn: Turn
    stored: int = field(default=0, init=False)
    """The candles that the exchange had."""
    holes: list[Hole] = field(factory=list, init=False)
    _waiting: list[Kline] = field(factory=list, init=False)
    _records: list[ImportRecord] = field(factory=list, init=False)
    _doubts: list[_Doubt] = field(factory=list, init=False)

    async def fill(self, ladders: Sequence[Ladder]) -> None:
        """Fetch all missing candles; afterwards `holes` has what is still missing.

        Raises:
            StoreError: the store cannot be read or written.
        """
        await in_workers(self._fill_series, ladders, workers=AT_ONCE)
        await self._flush()
        if doubts := self._doubts:
            self._doubts = []
            # The newest is the last to be a minute old; by then all of them are.
            await trio.sleep_until(max(each.at for each in doubts) + SKIPPED_AFTER_S)
            await in_workers(self._settle, doubts, workers=AT_ONCE)
            await self._flush()
        await in_workers(self._account, ladders, workers=AT_ONCE)

    async def _account(self, ladder: Ladder) -> None:
        """Add to `holes` what is neither stored, nor proven absent, nor among them."""
        end_ms = ladder.end_ms
        if exchange := self.exchanges.get(ladder.series.venue):
            end_ms = min(end_ms, self._ripe_ms(ladder, exchange))
        noted = [(e.first_ms, e.end_ms) for e in self.holes if e.series == ladder.series]
        for first_ms, over_ms in subtract(
            await once_there(partial(gaps_of, self.store, ladder), self.report), noted
        ):
            if first_ms < min(over_ms, end_ms):
                self._miss(ladder, (first_ms, min(over_ms, end_ms)), UNSETTLED)

    async def _fill_series(self, ladder: Ladder) -> None:
        gaps = await once_there(partial(gaps_of, self.store, ladder), self.report)
        exchange = self.exchanges.get(ladder.series.venue)
        if not gaps:
            return
        if exchange is None:
            for gap in gaps:
                self._miss(ladder, gap, "no file has them, and the exchange was not asked")
            return
        if not exchange.knows(ladder.series.symbol):
            for gap in gaps:
                self._absent(ladder, gap, UNKNOWN_SYMBOL)
            return
        known = self._witnesses(ladder, exchange, gaps[0])
        for gap in gaps:
            known = await self._fill_gap(ladder, exchange, known, gap)

    def _witnesses(self, ladder: Ladder, exchange: VenueExchange, first_gap: Range) -> Witnesses:
        covered = {
            record.first_day + day * DAY_MS
            for record in ladder.records.values()
            for day in range(len(record.day_rows))
        }
        info = exchange.listings[ladder.series.symbol]
        # Around a gap there are candles, or else its range ends.
        begins_ms = ladder.series.interval.first_open(ladder.first_ms)
        if first_gap[0] <= begins_ms:
            begins_ms = first_gap[1]
        opens = [each for each in (begins_ms, ladder.begins_ms) if each is not None]
        return Witnesses(
            has_file=lambda open_ms: day_of(open_ms) in covered,
            begins_ms=min((each for each in opens if each < ladder.end_ms), default=None),
            listed_ms=info.onboard_ms,
            has_every_candle=exchange.rest.venue.has_every_candle,
            published_ms=day_of(exchange.rest.time.now_ms()) - PUBLISHED_AFTER_MS,
        )

    async def _fill_gap(
        self, ladder: Ladder, exchange: VenueExchange, known: Witnesses, gap: Range
    ) -> Witnesses:
        """Ask for a gap page by page; where there is nothing, for whatever comes next."""
        interval, venue = ladder.series.interval, exchange.rest.venue
        open_ms, end_ms = gap  # what is not settled yet
        at_ms = open_ms  # what was not asked for yet
        is_search = False
        while open_ms < end_ms:
            now_ms = interval.next_open(interval.open_at(exchange.rest.time.now_ms()))
            page = page_of(at_ms, end_ms, interval, venue)
            if is_search:
                page = _search(at_ms, max(end_ms, now_ms), venue)
            shown = await self._look(ladder, exchange, page, (open_ms, end_ms))
            if shown is None:
                break
            known = after(shown, known)
            await self._apply(ladder, shown, known)
            if shown.is_empty and shown.unclear:
                break
            if shown.until_ms > open_ms:
                at_ms = open_ms = shown.until_ms
                is_search = False
            elif is_search or not shown.is_empty:
                self._note_rest(ladder, (open_ms, end_ms), exchange, known)
                break
            elif venue.klines_window_ms is None:
                is_search = True
            else:
                at_ms = interval.first_open(page.last_ms + 1)
                is_search = at_ms >= end_ms
        return known

    async def _look(
        self, ladder: Ladder, exchange: VenueExchange, page: Page, gap: Range
    ) -> Shown | None:
        """Ask for a page that begins with a gap; None if there is no answer: that is noted.

        An answer with unreadable rows is asked for again: they may be readable then.
        """
        series = ladder.series
        try:
            for left in reversed(range(_TRIES)):
                try:
                    answer = await exchange.rest.candles(
                        series.symbol, series.interval, page, exchange.urgency
                    )
                    shown = shown_by(page, answer, gap, series.interval)
                    if not shown.unclear or not left:
                        return shown
                except ExchangeUnreachable:  # the client pauses by itself
                    if not left:
                        raise
        except ExchangeError as error:
            self._miss(ladder, gap, str(error))
        return None

    async def _apply(self, ladder: Ladder, shown: Shown, known: Witnesses) -> None:
        """Store and note what an answer shows; what it skips is absent if a witness agrees."""
        await self._take(ladder.series, shown.closed)
        for off in shown.off_grid:
            self._absent(ladder, off, OFF_GRID)
        for unclear in shown.unclear:
            self._miss(ladder, unclear, UNREADABLE)
        for skipped in by_witness(shown.skipped, known, ladder.series.interval):
            if reason := reason_of_skipped(skipped, known):
                self._absent(ladder, skipped, reason)
            elif may_be_absent(skipped, known):
                self._doubts.append(_Doubt(ladder, skipped, trio.current_time(), known))
            else:
                self._miss(ladder, skipped, WITHHELD)

    def _note_rest(
        self, ladder: Ladder, rest: Range, exchange: VenueExchange, known: Witnesses
    ) -> None:
        """Note candles after the exchange's last one as absent or missing."""
        first_ms, end_ms = rest
        begins_ms = known.listed_ms if known.begins_ms is None else known.begins_ms
        if end_ms <= begins_ms:
            self._absent(ladder, rest, NOT_BEGUN)
            return
        if not exchange.trades(ladder.series.symbol):
            self._absent(ladder, rest, NOT_TRADING)
            return
        # The newest candles may not be out yet; an agent that starts fetches them.
        ripe_ms = self._ripe_ms(ladder, exchange)
        if first_ms < min(end_ms, ripe_ms):
            self._miss(ladder, (first_ms, min(end_ms, ripe_ms)), WITHHELD)

    @staticmethod
    def _ripe_ms(ladder: Ladder, exchange: VenueExchange) -> int:
        now_ms = exchange.rest.time.now_ms()
        return ladder.series.interval.open_at(max(0, now_ms - OUTAGE_MS))

    async def _settle(self, doubt: _Doubt) -> None:
        """Ask again for what one answer skipped, and no file covers."""
        ladder, exchange = doubt.ladder, self.exchanges[doubt.ladder.series.venue]
        known = evolve(doubt.known, has_answered_before=True)
        await self._fill_gap(ladder, exchange, known, doubt.range)

    async def _take(self, series: ArchivedSeries, rows: Sequence[RestCandle]) -> None:
        self._waiting += [
            row.as_closed(series.venue, series.symbol, series.interval) for row in rows
        ]
        if rows:
            self.stored += len(rows)
            self.report(Filled(series, len(rows)))
        if len(self._waiting) >= BATCH_ROWS:
            await self._flush()

    async def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        records, self._records = self._records, []
        if not rows and not records:
            return

        async def stored() -> None:
            async with self.turn():
                # Rows that came with the same answers first: nothing is recorded before what it
                # follows.
                await insert_all(self.store, rows)
                await self.store.history.record(records)

        await once_there(stored, self.report)

    def _miss(self, ladder: Ladder, missing: Range, reason: str) -> None:
        self._note(ladder, missing, reason, is_proven=False)

    def _absent(self, ladder: Ladder, absent: Range, reason: str) -> None:
        """Write down that candles do not exist, but for those that an unused file may have."""
        interval, left = ladder.series.interval, [absent]
        for file, why in unused_files(ladder, *absent):
            proven = subtract(left, [(file.first_ms, file.end_ms)])
            for missing in subtract(left, proven):
                self._miss(ladder, _on_grid(missing, interval), f"{file.path}: {why}")
            left = proven
        for each in left:
            self._record_absence(ladder, _on_grid(each, interval), reason)

    def _record_absence(self, ladder: Ladder, absent: Range, reason: str) -> None:
        first_ms, end_ms = absent
        interval, series = ladder.series.interval, ladder.series
        if not interval.count(first_ms, end_ms):
            return
        last_ms = interval.shifted(end_ms, -1)
        record = ImportRecord(
            path=f"absent/{series.venue}/{series.symbol}/{interval}/{first_ms}-{last_ms}",
            venue=series.venue,
            symbol=series.symbol,
            interval=interval.value,
            state=FileState.ABSENT,
            reason=reason,
            rows=interval.count(first_ms, end_ms),
            first_open=first_ms,
            last_open=last_ms,
            first_day=day_of(first_ms),
            imported_at=self.now_ms(),
        )
        self._records.append(record)
        ladder.note([record])
        self._note(ladder, absent, reason, is_proven=True)

    def _note(self, ladder: Ladder, range_: Range, reason: str, *, is_proven: bool) -> None:
        first_ms, end_ms = range_
        hole = Hole(
            series=ladder.series,
            first_ms=first_ms,
            end_ms=end_ms,
            candles=ladder.series.interval.count(first_ms, end_ms),
            reason=reason,
            is_proven=is_proven,
        )
        self.holes.append(hole)
        self.report(hole)


def _on_grid(range_: Range, interval: Interval) -> Range:
    first_ms, end_ms = range_
    return interval.first_open(first_ms), interval.first_open(end_ms)


def _search(at_ms: int, until_ms: int, venue: Venue) -> Page:
    """Return the request for the next candles, whenever they opened.

    Where the exchange bounds the range, and begins with the newest, it only shows that some come.
    """
    if venue.klines_window_ms is not None:
        until_ms = min(until_ms, at_ms + venue.klines_window_ms)
    return Page(at_ms, until_ms - 1, LEAST_ROWS)


async def gaps_of(store: Store, ladder: Ladder, but: Iterable[Range] = ()) -> list[Range]:
    """Return the ranges that neither records nor the store show to be there, by open times.

    Ranges of `but` are left out, and not looked for.
    """
    series = ladder.series
    interval = series.interval
    gaps: list[Range] = []
    for first_ms, end_ms in subtract(ladder.missing(), but):
        runs = await store.stored_runs(
            series.venue, series.symbol, interval.value, first_ms, end_ms
        )
        stored = [(first, interval.next_open(last)) for first, last in runs]
        for left in subtract([(first_ms, end_ms)], stored):
            begin_ms, over_ms = map(interval.first_open, left)
            if begin_ms < over_ms:
                gaps.append((begin_ms, over_ms))
    return gaps
