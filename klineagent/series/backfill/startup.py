"""The startup scan: what the store holds of series that begin, and so what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import groupby
from typing import NoReturn

import structlog
import trio
from attrs import define, field, frozen

from klineagent.core.errors import StoreError
from klineagent.core.interval import DAY_MS, Interval, runs_begin_at
from klineagent.core.retry import Backoff, Trouble
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.venues import Venue
from klineagent.series.backfill.known_gaps import KnownGaps, Series
from klineagent.series.marks import Absence, Absent, Gap, Missing, Urgency
from klineagent.series.spans import Span, Spans
from klineagent.storage.store import SeriesRuns, Store

# Series that begin within this time, thousands at a start, are looked up in one query.
GATHER_S = 0.2
# Series that are told what was found between two checkpoints: a millisecond or two.
AT_ONCE = 32
# The largest query: a month of a whole market. Beyond it symbols are split over several queries,
# because a database needs about a byte of memory for each candle that it scans.
CANDLES_AT_ONCE = 50_000_000

MissingRange = tuple[int, int, Urgency]
"""A range [first, end) of missing open times, and its urgency."""


@frozen
class StoredCoverage:
    """The candles of a series that are stored before its beginning, by store and gap file."""

    since_ms: int
    """From this open time on all candles are stored, except `gaps` and `absences`."""
    gaps: tuple[Gap, ...]
    absences: tuple[Span[Absence], ...] = ()


log = structlog.get_logger()


def stored_coverage(
    stored: SeriesRuns | None,
    known: KnownGaps | None,
    interval: Interval,
    *,
    since_ms: int,
    begin_ms: int,
    listed_ms: int,
    history: int,
    lookback_ms: int,
) -> StoredCoverage:
    """Compute the stored coverage of a series that begins at `begin_ms`. Pure.

    Args:
        stored: the candles that the store holds from `since_ms` on.
        known: the gaps that the last run saved.
        interval: the interval of the series.
        since_ms: `since_of`, or earlier if the last run ended before that.
        begin_ms: the open time with which the series begins.
        listed_ms: the symbol's listing, before which there is no history; 0 if it is unknown.
        history: the number of candles before `begin_ms` that should be stored in any case.
        lookback_ms: candles that are missing and older than this are less urgent.
    """
    gaps: Spans[Missing] = Spans()
    for first_ms, end_ms, urgency in missing_ranges(
        stored,
        interval,
        since_ms=since_ms,
        known_ms=begin_ms if known is None else min(known.since_ms, begin_ms),
        begin_ms=begin_ms,
        listed_ms=listed_ms,
        history=history,
        lookback_ms=lookback_ms,
    ):
        gaps.mark(first_ms, end_ms, Missing(urgency))
    accounted_ms = accounted_since(stored, begin_ms=begin_ms, since_ms=since_ms)
    if known is None:
        return StoredCoverage(accounted_ms, tuple(gaps))
    known = known.without(() if stored is None else stored.runs, interval)
    for gap in known.gaps:
        gaps.mark(*gap)
    absences = [each for each in known.absences if not _is_gone(each, gaps)]
    for absence in absences:
        gaps.clear(absence.first_ms, absence.end_ms)
    return StoredCoverage(min(accounted_ms, known.since_ms), tuple(gaps), tuple(absences))


def _is_gone(absence: Span[Absence], gaps: Spans[Missing]) -> bool:
    """Whether a candle that was stored off the grid must be fetched: its neighbours are missing.

    Coverage does not show candles off the grid.
    """
    if absence.mark.reason is not Absent.OFF_GRID:
        return False
    gap = gaps.at(absence.first_ms)
    return gap is not None and gap[:2] != absence[:2]


def missing_ranges(
    stored: SeriesRuns | None,
    interval: Interval,
    *,
    since_ms: int,
    known_ms: int,
    begin_ms: int,
    listed_ms: int,
    history: int,
    lookback_ms: int,
) -> list[MissingRange]:
    """Return what is missing of a series before `begin_ms`, where it begins. Pure.

    Missing are the candles since the newest stored one; those not `stored` since `since_ms`; if
    nothing older is stored, all since `known_ms`, when the series first ran; and `history` candles,
    but none before the listing. A listing in the future is an error of the exchange and ignored.
    """
    recent_ms = interval.open_at(max(0, begin_ms - lookback_ms))
    history_ms = history_since(interval, begin_ms, history)
    if (first_listed_ms := interval.open_at(listed_ms)) <= begin_ms:
        history_ms = max(history_ms, first_listed_ms)
    gaps: list[MissingRange] = []
    if stored is None:
        gaps.append((history_ms, known_ms, Urgency.HISTORY))
        gaps += _divided(known_ms, begin_ms, recent_ms)
        return [gap for gap in gaps if gap[0] < gap[1]]
    if stored.before is not None:
        # A gap that begins before the scanned range counts as a whole: the agent was away for
        # long, and candles that came since may be stored already.
        expected_ms = interval.next_open(stored.before)
    else:
        expected_ms = stored.runs[0][0]
        if not runs_begin_at(stored.runs, since_ms, interval.value):
            expected_ms = min(expected_ms, known_ms)
        gaps.append((history_ms, expected_ms, Urgency.HISTORY))
    for first_ms, last_ms in stored.runs:
        gaps += _divided(expected_ms, first_ms, recent_ms)
        expected_ms = interval.next_open(last_ms)
    gaps.append((expected_ms, begin_ms, Urgency.RESTART))
    return [gap for gap in gaps if gap[0] < gap[1]]


def accounted_since(stored: SeriesRuns | None, *, begin_ms: int, since_ms: int) -> int:
    """Return from which open time on all candles are stored or listed as missing. Pure."""
    if stored is None:
        return begin_ms
    if stored.before is None:
        since_ms = max(since_ms, stored.runs[0][0])
    return min(begin_ms, since_ms)


def since_of(interval: Interval, now_ms: int, *, history: int, lookback_ms: int) -> int:
    """Return from which open time on the store is scanned for gaps. Pure."""
    recent_ms = interval.open_at(max(0, now_ms - lookback_ms))
    return min(recent_ms, history_since(interval, interval.open_at(now_ms), history))


def history_since(interval: Interval, end_ms: int, candles: int) -> int:
    """Return the open time `candles` before `end_ms`, at the earliest in 1970. Pure.

    The calendar has no year for 50,000 monthly candles.
    """
    since_1970 = interval.count(interval.first_open(0), end_ms)
    return interval.shifted(end_ms, -min(candles, since_1970))


def _divided(first_ms: int, end_ms: int, recent_ms: int) -> list[MissingRange]:
    """Divide a gap at `recent_ms`: the recent part is more urgent."""
    divide_ms = min(max(first_ms, recent_ms), end_ms)
    return [(first_ms, divide_ms, Urgency.HISTORY), (divide_ms, end_ms, Urgency.RESTART)]


def _parts(since: Mapping[Series, int], now_ms: int) -> Iterator[Mapping[Series, int]]:
    """Split `since` by symbols so that one query does not scan too many candles."""
    part: dict[Series, int] = {}
    left = CANDLES_AT_ONCE
    for _, same_symbol in groupby(sorted(since, key=_symbol), key=_symbol):
        mine = {each: since[each] for each in same_symbol}
        candles = sum(
            interval.count(first_ms, interval.open_at(now_ms))
            for (_, interval), first_ms in mine.items()
        )
        if part and candles > left:
            yield part
            part, left = {}, CANDLES_AT_ONCE
        part |= mine
        left -= candles
    yield part


def _symbol(series: Series) -> str:
    return series[0]


@frozen(eq=False)
class _Lookup:
    """A series that begins, and waits for what is stored of it."""

    begin_ms: int
    listed_ms: int
    found: Callable[[StoredCoverage], None]


@define(eq=False)
class _ScanRound:
    """Series that are looked up together."""

    lookups: Mapping[Series, _Lookup]
    since_ms: dict[Series, int] = field(factory=dict)
    """The open time from which on each series was looked up."""
    coverage: dict[Series, SeriesRuns] = field(factory=dict)


@define(eq=False, kw_only=True)
class StartupScan:
    """Looks up what `store` holds of a venue's series; retries while the store is unreachable."""

    store: Store
    venue: Venue
    time: ExchangeTime
    history: int
    lookback_ms: int
    known: Callable[[Series], KnownGaps | None]
    """Returns what the last run saved of a series."""
    _waiting: dict[Series, _Lookup] = field(factory=dict, init=False)
    _work: trio.Event = field(factory=trio.Event, init=False)

    # A task of each series could wait for the answer. While the store is unreachable, those of all
    # of Binance would hold 90 MB.
    def look_up(
        self,
        series: Series,
        begin_ms: int,
        found: Callable[[StoredCoverage], None],
        *,
        listed_ms: int,
    ) -> None:
        """Call `found` with what is stored of a series before `begin_ms`, as soon as it is known.

        It is not called any more after `withdraw`.
        """
        self._waiting[series] = _Lookup(begin_ms, listed_ms, found)
        self._work.set()

    def withdraw(self, series: Series) -> None:
        """Do not look up a series that ends, if it still waits."""
        self._waiting.pop(series, None)

    async def run(self) -> NoReturn:
        """Look up the series that begin, round by round."""
        while True:
            await self._work.wait()
            await trio.sleep(GATHER_S)
            self._work = trio.Event()
            round_ = _ScanRound({**self._waiting})
            await self._look_up(round_)
            for number, (series, lookup) in enumerate(round_.lookups.items(), 1):
                if self._waiting.get(series) is lookup:
                    del self._waiting[series]
                    lookup.found(self._stored_coverage(round_, series, lookup))
                if number % AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    def _stored_coverage(
        self, round_: _ScanRound, series: Series, lookup: _Lookup
    ) -> StoredCoverage:
        return stored_coverage(
            round_.coverage.get(series),
            self.known(series),
            series[1],
            since_ms=round_.since_ms[series],
            begin_ms=lookup.begin_ms,
            listed_ms=lookup.listed_ms,
            history=self.history,
            lookback_ms=self.lookback_ms,
        )

    async def _look_up(self, round_: _ScanRound) -> None:
        for since_ms in self._queries(round_.lookups):
            since: dict[Interval, int] = {}
            for (_, interval), first_ms in since_ms.items():
                since[interval] = min(first_ms, since.get(interval, first_ms))
            round_.since_ms |= {each: since[each[1]] for each in since_ms}
            for found in await self._covered(since, {symbol for symbol, _ in since_ms}):
                round_.coverage[found.symbol, Interval(found.interval)] = found

    def _queries(self, series: Iterable[Series]) -> Iterator[Mapping[Series, int]]:
        """Group `series` into queries, each with the open times from which on it scans.

        Series with similar ranges share a query: one that was removed a year ago must not cause a
        scan of a year for all others, and a whole market must not be scanned for a year at once.
        """
        now_ms = self.time.now_ms()
        by_age: dict[int, dict[Series, int]] = {}
        for each in series:
            interval, known, age = each[1], self.known(each), 0
            since_ms = since_of(
                interval, now_ms, history=self.history, lookback_ms=self.lookback_ms
            )
            if known is not None and known.until_ms < since_ms:
                since_ms = interval.first_open(known.until_ms)
                age = 1 + ((now_ms - since_ms) // DAY_MS).bit_length()
            by_age.setdefault(age, {})[each] = since_ms
        for since in by_age.values():
            yield from _parts(since, now_ms)

    async def _covered(self, since: Mapping[Interval, int], symbols: set[str]) -> list[SeriesRuns]:
        trouble = Trouble("store_not_readable", "store_readable")
        backoff = Backoff(first_s=0.5, most_s=10)
        names = {interval.value: since_ms for interval, since_ms in since.items()}
        while True:
            try:
                coverage = await self.store.coverage(self.venue.name, names, sorted(symbols))
            except StoreError as error:
                trouble.lasts(error)
                await trio.sleep(backoff.after())
            else:
                trouble.over()
                return coverage


def _nothing(_: Series) -> None:
    """Know nothing of any series."""


@asynccontextmanager
async def open_startup_scan(
    store: Store,
    venue: Venue,
    *,
    time: ExchangeTime,
    history: int,
    lookback_ms: int,
    known: Callable[[Series], KnownGaps | None] = _nothing,
) -> AsyncIterator[StartupScan]:
    """Run the startup scan for series of `venue` in `store`, for the length of the block."""
    scan = StartupScan(
        store=store,
        venue=venue,
        time=time,
        history=history,
        lookback_ms=lookback_ms,
        known=known,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scan.run)
        yield scan
        nursery.cancel_scope.cancel(reason="nothing begins any more")
