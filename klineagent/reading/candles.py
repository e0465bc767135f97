"""Answers reads of candles from the tail and the store, complete or not at all."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial

import trio
from attrs import define, evolve, field

from klineagent.core.errors import NotReadable, Overloaded, StoreError
from klineagent.core.interval import SECOND_MS, on_grid
from klineagent.core.kline import Kline, SeriesName
from klineagent.exchange.venues import Venue, full_name, how_to_add
from klineagent.reading.completeness import count_absent, count_lacking, missing, not_there
from klineagent.reading.past import BEGINNING_OF_TIME_MS, reveal
from klineagent.reading.request import CandleRequest, not_listed
from klineagent.reading.rows import RowFormat
from klineagent.reading.tail import ROWS_A_SERIES, Tail, TailSeries
from klineagent.reading.waiting import waiting_rows
from klineagent.series.ledger import Ledger
from klineagent.series.subscription import Subscription
from klineagent.series.venues import RunningVenue, Venues
from klineagent.storage.reader import KlineRange
from klineagent.storage.writing.writer import Writer

# A closing event takes a moment, and a missing candle is fetched within a second or so. A client
# that waits longer can ask again.
COMPLETE_WITHIN_S = 3.0
# What a reader waits for comes on the bus, but not that a candle turned out not to exist.
LOOK_EVERY_S = 0.25
# Each forming candle passes on the bus once a second.
FORMING_WITHIN_S = 1.5
# The exchange's clock is known to some milliseconds. Who asks at a close must not get a state from
# before it, and take that for the candle's last one.
CLOCK_ERROR_MS = 100
# On a stream without a connection; on others the exchange has nothing new to tell.
STALE_AFTER_MS = 30_000
# A bot with a hundred pairs asks for all of them when it starts: 3 s of work on two cores.
MOST_IN_LINE = 100


class ReadFrom(StrEnum):
    """Where the candles of an answer come from."""

    TAIL = "tail"
    STORE = "store"


@define(eq=False, kw_only=True)
class CandleReader:
    """Answers requests for candles of series that run.

    An answer is never short without a word: a candle that the ledger does not know as absent is in
    it, or the read is refused. None is followed by another before it has closed.
    """

    venues: Venues
    writer: Writer
    forwards: frozenset[Venue] = frozenset()
    """The venues whose exchange is asked for what is refused here."""
    tail: Tail = field(factory=Tail, init=False)
    _in_line: int = field(default=0, init=False)
    """The number of series that are read from the store, or wait to be."""

    def klines_at_once(self, running: RunningVenue, asked: CandleRequest) -> list[bytes] | None:
        """Return the rows of the answer to a klines request, if that takes no waiting."""
        try:
            series, tail = self._subscription(running, asked), self._tail_of(running, asked)
            first_ms, end_ms = self._bounds(running, series, tail, asked)
        except NotReadable:
            return None
        if _obstacle(series, running, first_ms, end_ms):
            return None
        return self._in_tail(tail, series.ledger, first_ms, end_ms)

    async def klines(
        self, running: RunningVenue, asked: CandleRequest
    ) -> tuple[list[bytes], ReadFrom]:
        """Return the rows of the answer to a klines request, as the exchange writes them.

        Raises:
            NotReadable: not all of the candles are there.
            Overloaded: too many others read the store.
        """
        series, tail = self._subscription(running, asked), self._tail_of(running, asked)
        ledger = series.ledger
        if _is_old(running, series, asked):
            await reveal(series, _name_of(running.venue, series), self.writer.store)
        first_ms, end_ms = self._bounds(running, series, tail, asked)
        await self._complete(running, series, tail, first_ms, end_ms)
        if end_ms > ledger.horizon_ms:
            with trio.move_on_at(tail.since + FORMING_WITHIN_S):
                while tail.forming is None:  # of a series that was not followed, none has passed
                    await tail.change()
            first_ms, end_ms = self._bounds(running, series, tail, asked)
            await self._complete(running, series, tail, first_ms, end_ms)
        if (rows := self._in_tail(tail, ledger, first_ms, end_ms)) is not None:
            return rows, ReadFrom.TAIL
        async with tail.reading:
            if (rows := self._in_tail(tail, ledger, first_ms, end_ms)) is not None:
                return rows, ReadFrom.TAIL
            # Not before: five bots with the same eighty pairs are eighty reads.
            with self._line():
                name = _name_of(running.venue, series)
                found = await self._found(_range(name, first_ms, end_ms))
            if first_ms >= ledger.interval.shifted(ledger.horizon_ms, -ROWS_A_SERIES):
                for kline in found:
                    tail.take(kline)
                self.tail.make_room()
            states = tail.states(first_ms, end_ms, beside=found)
        # By the ledger of now: what fell due meanwhile and did not come would be a silent gap.
        opens = sorted(states)
        if late := _lacking(ledger, on_grid(opens, asked.interval.value), first_ms, end_ms):
            raise not_there(late, ledger, first_ms, end_ms, f"{series.symbol} {series.interval}")
        rows = [states[open_ms] for open_ms in opens]
        return [*rows, *tail.forming_row(max(first_ms, ledger.horizon_ms), end_ms)], ReadFrom.STORE

    def _tail_of(self, running: RunningVenue, asked: CandleRequest) -> TailSeries:
        info = (running.context.book.listings or {}).get(asked.symbol)
        name = running.venue.name, asked.symbol, asked.interval.value
        return self.tail.of(name, RowFormat.of(info, running.venue))

    def _in_tail(
        self, tail: TailSeries, ledger: Ledger, first_ms: int, end_ms: int
    ) -> list[bytes] | None:
        """Return the rows of a range if all of them are in the tail."""
        if end_ms > ledger.horizon_ms and tail.forming is None and _is_new(tail):
            return None
        if _lacking(ledger, tail.opens(first_ms, end_ms), first_ms, end_ms):
            return None
        return [
            *tail.closed(first_ms, end_ms),
            *tail.forming_row(max(first_ms, ledger.horizon_ms), end_ms),
        ]

    @contextmanager
    def _line(self) -> Iterator[None]:
        """Stand in line for the store.

        Raises:
            Overloaded: the line is too long.
        """
        if self._in_line >= MOST_IN_LINE:
            raise Overloaded(f"{MOST_IN_LINE} other reads wait for the database", retry_after_s=1)
        self._in_line += 1
        try:
            yield
        finally:
            self._in_line -= 1

    def _subscription(self, running: RunningVenue, asked: CandleRequest) -> Subscription:
        series = running.registry.subscription(asked.symbol, asked.interval)
        listings = running.context.book.listings
        if series is None and listings is not None and asked.symbol not in listings:
            raise not_listed()
        name = full_name(running.venue, asked.symbol, self.venues.default)
        if series is None:
            default = self.venues.default
            how = how_to_add(running.venue, asked.symbol, asked.interval.value, default)
            raise NotReadable(f"{name} {asked.interval} is not recorded; `{how}`")
        if not series.ledger.has_begun:
            raise NotReadable(f"{name} {asked.interval} begins just now; try again")
        return series

    def _bounds(
        self, running: RunningVenue, series: Subscription, tail: TailSeries, asked: CandleRequest
    ) -> tuple[int, int]:
        """Return the range of open times to answer.

        What is asked for from before the listing on begins where the series does.

        Raises:
            NotReadable: candles are wanted that are older than the series, and may exist.
        """
        now_ms, oldest_ms = running.context.time.now_ms(), series.ledger.first_ms
        newest_ms = asked.interval.open_at(now_ms)
        if asked.is_for_one and not _is_new(tail) and not tail.forming_row(newest_ms, now_ms + 1):
            # Rather the candle before than none: who asks for the newest one takes the first row.
            now_ms = newest_ms - 1
        since_ms, absent = asked.since_ms or 0, partial(count_absent, series.ledger)
        listed_ms, is_all = _beginning(running, series)
        # Programs ask for everything since 1970 to learn where a series begins.
        is_early = since_ms <= max(listed_ms, BEGINNING_OF_TIME_MS)
        may_begin = series.has_looked_back and running.venue not in self.forwards
        asks_all = is_all or (is_early and may_begin)
        begins_late = asked.is_oldest_first and since_ms < oldest_ms and asks_all
        if begins_late:
            asked = evolve(asked, since_ms=oldest_ms)
        first_ms, end_ms = asked.bounds(now_ms, absent)
        if is_all or (oldest_ms <= first_ms and not (begins_late and end_ms <= first_ms)):
            return max(first_ms, oldest_ms), end_ms
        raise NotReadable(
            f"{asked.symbol} {asked.interval} is recorded from {_utc(oldest_ms)} on; older"
            " candles are fetched with a larger --history"
        )

    async def _complete(
        self,
        running: RunningVenue,
        series: Subscription,
        tail: TailSeries,
        first_ms: int,
        end_ms: int,
    ) -> None:
        """Wait until nothing is missing in a range, nor awaited, as far as that takes no longer.

        Raises:
            NotReadable: candles are missing.
        """
        with trio.move_on_after(COMPLETE_WITHIN_S):
            while _obstacle(series, running, first_ms, end_ms):
                with trio.move_on_after(LOOK_EVERY_S):
                    await tail.change()
        if obstacle := _obstacle(series, running, first_ms, end_ms):
            raise NotReadable(obstacle)

    async def _found(self, wanted: KlineRange) -> list[Kline]:
        """Return the closed candles of a range that wait to be stored, and those in the store."""
        waiting = (await waiting_rows(self.writer, [wanted.series]))[wanted.series]
        found = [row for row in waiting if wanted.first_ms <= row.open_time < wanted.end_ms]
        return found + await self._stored(wanted)

    async def _stored(self, wanted: KlineRange) -> list[Kline]:
        rows: list[Kline] = []
        rest: KlineRange | None = wanted
        while rest is not None:
            some, rest = await self._read(rest)
            rows += some
        return rows

    async def _read(self, wanted: KlineRange) -> tuple[list[Kline], KlineRange | None]:
        try:
            return await self.writer.store.reader.read(wanted)
        except StoreError as error:
            raise NotReadable(f"the database cannot be read: {error}") from error


def _name_of(venue: Venue, series: Subscription) -> SeriesName:
    return venue.name, series.symbol, series.interval.value


def _range(name: SeriesName, first_ms: int, end_ms: int) -> KlineRange:
    venue, symbol, interval = name
    return KlineRange(
        venue=venue, symbol=symbol, interval=interval, first_ms=first_ms, end_ms=end_ms
    )


def _is_new(tail: TailSeries) -> bool:
    """Whether a state of the forming candle may still have to pass for the first time."""
    return trio.current_time() < tail.since + FORMING_WITHIN_S


def _beginning(running: RunningVenue, series: Subscription) -> tuple[int, bool]:
    """Return when a symbol was listed, 0 if that is unknown, and whether its series begins then."""
    interval, ledger = series.interval, series.ledger
    listed_ms = interval.open_at(running.context.book.listed_ms(series.symbol))
    first_ms = ledger.first_ms
    # Spot does not say when a symbol was listed; before that there are no candles.
    begins_absent = count_absent(ledger, first_ms, interval.next_open(first_ms)) > 0
    return listed_ms, listed_ms >= first_ms or begins_absent


def _is_old(running: RunningVenue, series: Subscription, asked: CandleRequest) -> bool:
    """Whether candles are wanted that are older than the ledger, and may exist."""
    ledger = series.ledger
    first_ms, _ = asked.bounds(running.context.time.now_ms(), partial(count_absent, ledger))
    return first_ms < ledger.first_ms and not _beginning(running, series)[1]


def _obstacle(series: Subscription, running: RunningVenue, first_ms: int, end_ms: int) -> str:
    """Return which candles that open in [`first_ms`, `end_ms`) have to be waited for, and why."""
    ledger = series.ledger
    if gaps := ledger.gaps.within(first_ms, end_ms):
        return missing(gaps, ledger, f"{series.symbol} {series.interval}")
    # What the clock says is over, or about to be, has no closing event yet.
    soon_ms = running.context.time.now_ms() + CLOCK_ERROR_MS
    over_ms = min(end_ms, ledger.interval.open_at(soon_ms))
    if max(first_ms, ledger.horizon_ms) < over_ms:
        return f"the candle of {series.symbol} {series.interval} that is just over has not come yet"
    if end_ms > ledger.horizon_ms and not series.is_active and series.newest is not None:
        age_ms = running.context.time.now_ms() - series.newest.event_time
        if age_ms > STALE_AFTER_MS:
            name, age_s = f"{series.symbol} {series.interval}", age_ms // SECOND_MS
            return f"nothing has come of {name} for {age_s} s, and no connection carries it"
    return ""


def _lacking(ledger: Ledger, opens: Sequence[int], first_ms: int, end_ms: int) -> int:
    """Count candles of a range that are due, exist, and are not among `opens`, ascending. Pure."""
    end_ms = min(end_ms, ledger.horizon_ms)
    if first_ms >= end_ms:
        return 0
    due = opens[: bisect_left(opens, end_ms)]
    return count_lacking(ledger, first_ms, end_ms, len(due), lambda: due)


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC).isoformat(timespec="minutes")
