"""Answers reads of candles from the tail and the store, complete or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime

import trio
from attrs import define, evolve, field

from klineagent.core.errors import NotReadable, StoreError
from klineagent.core.interval import SECOND_MS
from klineagent.core.kline import Kline
from klineagent.exchange.venues import Venue, full_name
from klineagent.reading.request import CandleRange, CandleRequest
from klineagent.reading.rows import RowFormat
from klineagent.reading.tail import SeriesName, Tail, newest_states
from klineagent.series.ledger import Ledger
from klineagent.series.subscription import Subscription
from klineagent.series.venues import RunningVenue, Venues
from klineagent.storage.reader import KlineRange
from klineagent.storage.writing.writer import Writer

# A missing candle is fetched within a second or so; a client that waits longer can ask again.
HEALED_WITHIN_S = 3.0
# Bots ask as soon as a candle is over, and its closing event takes a moment.
CLOSED_WITHIN_S = 1.0
# Each forming candle passes on the bus once a second.
FORMING_WITHIN_S = 1.5
LOOK_EVERY_S = 0.05
# As many candles at the end of a document come from the tail, which has them before the store.
MOST_ROWS = 500
END_OF_TIME_MS = 2**62


@define(eq=False, kw_only=True)
class CandleReader:
    """Answers requests for candles of series that run.

    An answer is never short without a word: a candle that the ledger does not know as absent is in
    it, or the read is refused.
    """

    venues: Venues
    writer: Writer
    tail: Tail = field(factory=Tail, init=False)

    async def klines(self, running: RunningVenue, asked: CandleRequest) -> bytes:
        """Return the answer to a klines request, as the exchange writes it.

        Raises:
            NotReadable: not all of the candles are there.
        """
        series = self._subscription(running, asked)
        first_ms, end_ms = self._bounds(running, series, asked)
        await self._complete(running, series, first_ms, end_ms)
        rows = await self._rows(running.venue, series, first_ms, end_ms)
        info = (running.context.book.listings or {}).get(asked.symbol)
        answer = RowFormat.of(info, running.venue)
        return answer.body(rows)

    async def closed(self, running: RunningVenue, asked: CandleRange) -> ClosedCandles:
        """Return the closed candles of a range, to be read in parts.

        Raises:
            NotReadable: not all of the candles are there.
        """
        series = self._subscription(running, asked)
        ledger = series.ledger
        first_ms, end_ms = asked.bounds(ledger.first_ms, ledger.horizon_ms)
        await self._complete(running, series, first_ms, end_ms)
        newest_ms = max(first_ms, ledger.interval.shifted(end_ms, -MOST_ROWS))
        rows = await self._rows(running.venue, series, newest_ms, end_ms)
        return ClosedCandles(
            name=f"{asked.symbol} {asked.interval}",
            newest=[row for row in rows if row.is_closed],
            rest=_range(_name_of(running.venue, series), first_ms, newest_ms),
            read=self._read,
            lacking=_lacking(ledger, [], first_ms, newest_ms),
        )

    def _subscription(
        self, running: RunningVenue, asked: CandleRequest | CandleRange
    ) -> Subscription:
        series = running.registry.subscription(asked.symbol, asked.interval)
        if series is None or not series.ledger.has_begun:
            name = full_name(running.venue, asked.symbol, self.venues.default)
            what = "is not recorded; `klineagent add" if series is None else "begins just now;"
            how = f" {name} --intervals {asked.interval}`" if series is None else " try again"
            raise NotReadable(f"{name} {asked.interval} {what}{how}")
        return series

    def _bounds(
        self, running: RunningVenue, series: Subscription, asked: CandleRequest
    ) -> tuple[int, int]:
        """Return the range of open times to answer; it begins where the series does, if it must.

        Raises:
            NotReadable: candles are wanted that are older than the series, and may exist.
        """
        now_ms, oldest_ms = running.context.time.now_ms(), series.ledger.first_ms
        if asked.is_oldest_first and (asked.since_ms or 0) < oldest_ms:
            # Programs ask for everything since 1970 to learn where a series begins.
            asked = evolve(asked, since_ms=oldest_ms)
        first_ms, end_ms = asked.bounds(now_ms)
        if first_ms >= oldest_ms:
            return first_ms, end_ms
        listed_ms = asked.interval.open_at(running.context.book.listed_ms(asked.symbol))
        if listed_ms < oldest_ms:
            raise NotReadable(
                f"{asked.symbol} {asked.interval} is recorded from {_utc(oldest_ms)} on; older"
                " candles are fetched with a larger --history"
            )
        return oldest_ms, end_ms

    async def _complete(
        self, running: RunningVenue, series: Subscription, first_ms: int, end_ms: int
    ) -> None:
        """Wait until nothing is missing in a range, nor awaited, as far as that takes no longer.

        Raises:
            NotReadable: candles are missing.
        """
        ledger, time = series.ledger, running.context.time
        with trio.move_on_after(CLOSED_WITHIN_S):
            while ledger.horizon_ms < min(  # noqa: ASYNC110 - a ledger has no event
                end_ms, ledger.interval.open_at(time.now_ms())
            ):
                await trio.sleep(LOOK_EVERY_S)
        with trio.move_on_after(HEALED_WITHIN_S):
            while ledger.gaps.within(first_ms, end_ms):  # noqa: ASYNC110
                await trio.sleep(LOOK_EVERY_S)
        if gaps := ledger.gaps.within(first_ms, end_ms):
            reasons = {gap.mark.error for gap in gaps if gap.mark.error}
            why = f": {'; '.join(sorted(reasons))}" if reasons else ""
            raise NotReadable(
                f"{_candles(ledger.count(gaps))} of {series.symbol} {series.interval} are missing"
                f" and being fetched{why}"
            )

    async def _rows(
        self, venue: Venue, series: Subscription, first_ms: int, end_ms: int
    ) -> list[Kline]:
        """Return the newest states of the candles that open in [`first_ms`, `end_ms`), ascending.

        Raises:
            NotReadable: a closed one is neither in the tail, nor waiting, nor in the store.
        """
        name, ledger = _name_of(venue, series), series.ledger
        tail = self.tail.of(name)
        if end_ms > ledger.horizon_ms:
            # Where it is the first read of the series, no state may have passed yet.
            with trio.move_on_at(tail.since + FORMING_WITHIN_S):
                while not tail.has_forming:  # noqa: ASYNC110 - the bus has no event
                    await trio.sleep(LOOK_EVERY_S)
        rows = tail.between(first_ms, end_ms)
        if _lacking(ledger, rows, first_ms, end_ms):
            # Rows that wait first: what is stored meanwhile is found in one of the two.
            found = [*await self._waiting(name)]
            found += await self._stored(_range(name, first_ms, end_ms))
            for row in found:
                tail.take(row)
            newest = newest_states((*found, *tail.between(first_ms, end_ms)))
            rows = [row for open_ms, row in sorted(newest.items()) if first_ms <= open_ms < end_ms]
        # By the ledger of now: what fell due meanwhile and did not come would be a silent gap.
        if late := _lacking(ledger, rows, first_ms, end_ms):
            raise _on_their_way(late, f"{series.symbol} {series.interval}")
        return rows

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

    async def _waiting(self, name: SeriesName) -> Iterable[Kline]:
        """Return the closed rows of a series that are not in the store yet, as far as in memory."""
        with trio.move_on_after(CLOSED_WITHIN_S):
            while True:
                if (rows := self.writer.at_risk()) is not None:
                    return [row for row in rows if row[:3] == name]
                await trio.sleep(LOOK_EVERY_S)
        return ()


@define(eq=False, kw_only=True)
class ClosedCandles:
    """The closed candles of a range, ascending, part by part: from the store, then the newest."""

    name: str
    _rest: KlineRange | None
    """What is still to be read from the store."""
    _read: Callable[[KlineRange], Awaitable[tuple[list[Kline], KlineRange | None]]]
    _lacking: int
    """How many candles of it there must still be."""
    _newest: list[Kline] | None

    async def part(self) -> list[Kline] | None:
        """Return the next candles; None after the last.

        Raises:
            NotReadable: some are not there, and what was read before is not the whole range.
        """
        if self._rest is not None:
            rows, self._rest = await self._read(self._rest)
            self._lacking -= len(rows)
            return rows
        if self._lacking > 0:
            raise _on_their_way(self._lacking, self.name)
        newest, self._newest = self._newest, None
        return newest


def _name_of(venue: Venue, series: Subscription) -> SeriesName:
    return venue.name, series.symbol, series.interval.value


def _range(name: SeriesName, first_ms: int = 0, end_ms: int = END_OF_TIME_MS) -> KlineRange:
    venue, symbol, interval = name
    return KlineRange(
        venue=venue, symbol=symbol, interval=interval, first_ms=first_ms, end_ms=end_ms
    )


def _lacking(ledger: Ledger, rows: Iterable[Kline], first_ms: int, end_ms: int) -> int:
    """Count candles in [`first_ms`, `end_ms`): due, not absent, and not in `rows`. Pure."""
    end_ms = min(end_ms, ledger.horizon_ms)
    if first_ms >= end_ms:
        return 0
    absent = ledger.count(ledger.absences.within(first_ms, end_ms))
    there = sum(row.is_closed and first_ms <= row.open_time < end_ms for row in rows)
    return max(0, ledger.interval.count(first_ms, end_ms) - absent - there)


def _on_their_way(candles: int, of: str) -> NotReadable:
    return NotReadable(f"{_candles(candles)} of {of} are on their way to the database")


def _candles(count: int) -> str:
    return "1 candle" if count == 1 else f"{count} candles"


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC).isoformat(timespec="minutes")
