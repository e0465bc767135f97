"""Reads closed candles of any number of series, each range complete or refused, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain, compress

import trio
from attrs import define, field, frozen

from klineagent.core.cooperate import in_portions
from klineagent.core.errors import NotReadable, StoreError
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline, SeriesName
from klineagent.exchange.venues import Venue, full_name, how_to_add
from klineagent.reading.completeness import count_lacking, missing, not_there
from klineagent.reading.past import reveal
from klineagent.reading.request import CandleRange
from klineagent.reading.waiting import waiting_rows
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Gap
from klineagent.series.subscription import Subscription
from klineagent.series.venues import RunningVenue, Venues
from klineagent.storage.reader import Chunk, KlineRange, Reader, count_on_grid, opens_of
from klineagent.storage.writing.writer import Writer

# A missing candle is fetched within a second or so; a client that waits longer can ask again.
HEALED_WITHIN_S = 3.0
# Programs ask as soon as a candle is over, and its closing event takes a moment.
CLOSED_WITHIN_S = 1.0
LOOK_EVERY_S = 0.05
# A pattern may match thousands: a millisecond or two of work between two checkpoints.
SERIES_AT_ONCE = 300
# Each takes a query on the session that the agent itself uses, and may begin to fetch what lacks.
MOST_REVEALED = 1_000


@frozen
class RecordedSeries:
    """A series that is recorded."""

    venue: RunningVenue
    subscription: Subscription

    @property
    def name(self) -> SeriesName:
        """Venue, symbol and interval."""
        series = self.subscription
        return self.venue.venue.name, series.symbol, series.interval.value

    @property
    def ledger(self) -> Ledger:
        """What is known of its candles."""
        return self.subscription.ledger


Wanted = tuple[RecordedSeries, CandleRange]


@define(eq=False, kw_only=True)
class RangeReader:
    """Reads ranges of series that run, with what is not in the store yet laid over it.

    A candle that the ledger does not know as absent is in them, or the read is refused.
    """

    venues: Venues
    writer: Writer
    turn: trio.Lock = field(factory=trio.Lock, init=False)
    """Held while a part is read: threads read no faster, and a part takes some 20 MB."""

    @property
    def lags(self) -> bool:
        """Whether rows wait in the spool: then it is seen late that a range is not complete."""
        spool = self.writer.spool
        return spool is not None and not spool.is_empty

    def one(self, venue: Venue, symbol: str, interval: Interval) -> RecordedSeries:
        """Return the series of a symbol at an interval.

        Raises:
            NotReadable: it is not recorded.
        """
        running = self.venues.get(venue.name)
        if running and (series := running.registry.subscription(symbol, interval)):
            return RecordedSeries(running, series)
        how = how_to_add(venue, symbol, interval.value, self.venues.default)
        name = full_name(venue, symbol, self.venues.default)
        raise NotReadable(f"{name} {interval} is not recorded; `{how}`")

    async def matching(
        self, venue: Venue, pattern: str, intervals: Sequence[Interval]
    ) -> list[RecordedSeries]:
        """Return the series that match a pattern, at those of `intervals` that are recorded."""
        if (running := self.venues.get(venue.name)) is None:
            return []
        registry = running.registry

        def at_intervals(symbol: str) -> list[RecordedSeries]:
            if not fnmatchcase(symbol, pattern):
                return []
            there = (registry.subscription(symbol, interval) for interval in intervals)
            return [RecordedSeries(running, series) for series in there if series]

        at_once = max(1, SERIES_AT_ONCE // len(intervals))
        return [*chain(*await in_portions(at_intervals, registry.symbols(), at_once=at_once))]

    async def open(
        self,
        wanted: Sequence[Wanted],
        *,
        with_forming: bool,
        as_rows: bool = False,
        lists_gaps: bool = False,
    ) -> list[SeriesCandles]:
        """Return the candles of ranges, to be read in parts; with the forming one if it is theirs.

        With `as_rows` no part is a table. If the caller `lists_gaps`, missing candles are none it
        waits for.

        Raises:
            NotReadable: candles are missing.
        """
        older = await _those(wanted, _may_be_older)
        if len(older) > MOST_REVEALED:
            raise NotReadable(
                f"{len(older)} series begin later than asked, as far as this start has looked; name"
                f" a later `from` or a smaller `last`, or ask once for {MOST_REVEALED:,} at a time"
            )
        for series, _ in older:
            await reveal(series.subscription, series.name, self.writer.store)
        if not lists_gaps:
            await _until_settled(wanted)
        # Bounds first, then what waits: of candles that are due, each is stored by then, or waits.
        open_one = partial(self._opened, with_forming=with_forming, lists_gaps=lists_gaps)
        opened = await in_portions(open_one, wanted, at_once=SERIES_AT_ONCE)
        waiting = await waiting_rows(self.writer, {each.name for each in opened})
        for each in opened:
            each.lay_over(waiting[each.name])
            each.as_rows = as_rows
        return opened

    def _opened(self, wanted: Wanted, *, with_forming: bool, lists_gaps: bool) -> SeriesCandles:
        series, asked = wanted
        ledger, forming = series.ledger, series.subscription.newest if with_forming else None
        first_ms, end_ms = asked.bounds(ledger.first_ms, ledger.horizon_ms)
        if forming is None or forming.is_closed or not asked.reaches(end_ms, forming.open_time):
            forming = None
        elif asked.last is not None:
            first_ms = max(first_ms, ledger.interval.shifted(end_ms, 1 - asked.last))
        return SeriesCandles(
            name=series.name,
            ledger=ledger,
            reader=self.writer.store.reader,
            first_ms=first_ms,
            end_ms=end_ms,
            forming=forming,
            gaps=ledger.gaps.within(first_ms, end_ms) if lists_gaps else None,
        )


@define(eq=False, kw_only=True)
class SeriesCandles:
    """The candles of one series in a range, ascending, part by part."""

    name: SeriesName
    _ledger: Ledger
    _reader: Reader
    _first_ms: int
    _end_ms: int
    """Where the candles end that are covered and over."""
    _forming: Kline | None
    gaps: list[Gap] | None
    """What was missing at first; None unless the caller lists it, so that it need not be there."""
    as_rows: bool = field(default=False, init=False)
    """Whether the store is read by rows, even if it has tables."""
    _known: dict[int, Kline] = field(factory=dict, init=False)
    """Closed candles that are in memory, by their open times."""

    @property
    def bounds(self) -> tuple[int, int]:
        """The range of open times that is left to read."""
        return self._first_ms, self._end_ms

    def lay_over(self, klines: Iterable[Kline]) -> None:
        """Know these states, where they are of the range and closed."""
        self._known = _newest_states(
            row
            for row in klines
            if row.is_closed and self._first_ms <= row.open_time < self._end_ms
        )

    async def part(self) -> Chunk | None:
        """Return the next candles; None after the last.

        Raises:
            NotReadable: some are not there, and what was read before is not the whole range.
        """
        try:
            return await self._next()
        except StoreError as error:
            raise NotReadable(f"the database cannot be read: {error}") from error

    async def _next(self) -> Chunk | None:
        known_ms = self._known_from()
        stored_ms = min(self._known, default=known_ms)
        if self._first_ms < stored_ms:
            return await self._stored(stored_ms)
        if self._first_ms < known_ms:
            return await self._overlaid(known_ms)
        if self._first_ms < self._end_ms:
            self._first_ms = self._end_ms
            return [row for _, row in sorted(self._known.items())]
        forming, self._forming = self._forming, None
        return None if forming is None else [forming]

    async def _stored(self, end_ms: int) -> Chunk:
        """Return the next candles before `end_ms`, which only the store has."""
        read = self._reader.read if self.as_rows else self._reader.chunk
        chunk, rest = await read(self._range(end_ms))
        return self._checked(chunk, end_ms, rest)

    async def _overlaid(self, end_ms: int) -> Chunk:
        """Return the next candles before `end_ms`, of which some are known and some stored."""
        rows, rest = await self._reader.read(self._range(end_ms))
        left_ms = end_ms if rest is None else rest.first_ms
        known = [self._known.pop(open_ms) for open_ms in [*self._known] if open_ms < left_ms]
        newest = _newest_states((*rows, *known))
        return self._checked([row for _, row in sorted(newest.items())], end_ms, rest)

    def _range(self, end_ms: int) -> KlineRange:
        venue, symbol, interval = self.name
        return KlineRange(
            venue=venue, symbol=symbol, interval=interval, first_ms=self._first_ms, end_ms=end_ms
        )

    def _checked(self, chunk: Chunk, end_ms: int, rest: KlineRange | None) -> Chunk:
        """Return what was read, and go on after it."""
        left_ms = end_ms if rest is None else self._ledger.interval.first_open(rest.first_ms)
        first_ms, ledger = self._first_ms, self._ledger
        there, opens = count_on_grid(chunk, self.name[2]), partial(opens_of, chunk, self.name[2])
        # What has come since may be too late for what was read, and some may be lost since.
        now = [] if self.gaps is None else ledger.gaps.within(first_ms, left_ms)
        listed = _within([*(self.gaps or ()), *now], first_ms, left_ms)
        if lacking := count_lacking(ledger, first_ms, left_ms, there, opens, listed=listed):
            raise not_there(lacking, ledger, first_ms, left_ms, " ".join(self.name[1:]))
        self._first_ms = left_ms
        return chunk

    def _known_from(self) -> int:
        """Return the open time from which on all candles of the range are known."""
        open_ms = self._end_ms
        while (before_ms := self._ledger.interval.shifted(open_ms, -1)) in self._known:
            open_ms = before_ms
        return open_ms


def _within(gaps: Iterable[Gap], first_ms: int, end_ms: int) -> list[Gap]:
    return [each for each in gaps if each.first_ms < end_ms and first_ms < each.end_ms]


def _newest_states(klines: Iterable[Kline]) -> dict[int, Kline]:
    """Return the newest state of each candle of one series, by its open time. Pure."""
    newest: dict[int, Kline] = {}
    for kline in klines:
        known = newest.get(kline.open_time)
        if known is None or known.version < kline.version:
            newest[kline.open_time] = kline
    return newest


async def _until_settled(wanted: Sequence[Wanted]) -> None:
    """Wait until nothing is missing in the ranges, nor awaited, as far as that takes no longer.

    Raises:
        NotReadable: candles are missing.
    """
    left = wanted
    with trio.move_on_after(CLOSED_WITHIN_S):
        while left := await _those(left, is_awaited):  # noqa: ASYNC110 - a ledger has no event
            await trio.sleep(LOOK_EVERY_S)
    left = wanted
    with trio.move_on_after(HEALED_WITHIN_S):
        while left := await _those(left, _gaps):  # noqa: ASYNC110
            await trio.sleep(LOOK_EVERY_S)
    for series, asked in left:
        if gaps := _gaps(series, asked):
            what = " ".join(series.name[1:])
            raise NotReadable(missing(gaps, series.ledger, what))
    for series, asked in await _those(wanted, is_awaited):
        if asked.end_ms is not None:  # else a document ends with what has closed
            what = " ".join(series.name[1:])
            raise NotReadable(f"the candle of {what} that is just over has not come yet")


async def _those(
    wanted: Sequence[Wanted], apply: Callable[[RecordedSeries, CandleRange], object]
) -> list[Wanted]:
    """Return those of `wanted` to which something applies."""
    applies = await in_portions(lambda each: bool(apply(*each)), wanted, at_once=SERIES_AT_ONCE)
    return [*compress(wanted, applies)]


def _may_be_older(series: RecordedSeries, asked: CandleRange) -> bool:
    """Whether candles are wanted from before the ledger, and it is not known if there are any.

    Raises:
        NotReadable: the series is not known yet.
    """
    ledger = series.ledger
    if not ledger.has_begun:
        raise NotReadable(f"{' '.join(series.name[1:])} begins just now; try again")
    has_looked = series.subscription.has_looked_back
    return not has_looked and asked.reaches_before(ledger.first_ms, ledger.horizon_ms)


def is_awaited(series: RecordedSeries, asked: CandleRange) -> bool:
    """Whether a candle of the range is over whose closing event may come any moment."""
    interval, horizon_ms = series.ledger.interval, series.ledger.horizon_ms
    is_over = interval.next_open(horizon_ms) <= series.venue.context.time.now_ms()
    return is_over and asked.reaches(horizon_ms, horizon_ms)


def _gaps(series: RecordedSeries, asked: CandleRange) -> list[Gap]:
    ledger = series.ledger
    return ledger.gaps.within(*asked.bounds(ledger.first_ms, ledger.horizon_ms))
