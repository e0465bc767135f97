"""Reads ranges of stored candles, apart from the write side of the store.

A range of any length is read in chunks, each a query of its own, so that memory is bounded and a
reader that is cancelled leaves nothing behind but the query under way:

    rest: KlineRange | None = wanted
    while rest is not None:
        rows, rest = await reader.read(rest)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import trio
from attrs import define, evolve, field, frozen

from klineagent.core.interval import GRIDS, Interval, on_grid
from klineagent.core.kline import Kline, SeriesName

# One query of so many rows takes some 30 ms of a core.
CHUNK_ROWS = 5_000
# One query of so many as a table takes some 40 ms of a core, and 5 MB.
TABLE_ROWS = 50_000
# On two cores more threads read no faster, and each embedded session takes some MB.
READS_AT_ONCE = 2
# A database looks at all rows that a query's times allow, however few it returns. So a query spans
# no more candles than it may return, and where it finds none the next spans eight times as many.
_WIDER = 8
END_MS = 4_102_444_800_000
"""2100-01-01: no stored candle opens later."""

CANDLE_COLUMNS = (
    *("open_time", "close_time", "open", "high", "low", "close", "volume", "quote_volume"),
    *("trades", "taker_buy_volume", "taker_buy_quote_volume", "source"),
)
"""The columns of a table of candles of one series."""
CandleTable = Any
"""A `pyarrow.Table` of `CANDLE_COLUMNS`; pyarrow has no types. Times are timestamps in ms,
UTC; counts are 64-bit integers."""
Chunk = Sequence[Kline] | CandleTable

Resource = TypeVar("Resource")


def opens_of(chunk: Chunk, interval: str) -> list[int]:
    """Return the open times of candles that are on the grid, in milliseconds."""
    if isinstance(chunk, Sequence):
        return on_grid((row.open_time for row in chunk), interval)
    return on_grid(chunk["open_time"].cast("int64").to_pylist(), interval)


def count_on_grid(chunk: Chunk, interval: str) -> int:
    """Count these; of a table it takes a tenth of the time."""
    grid = GRIDS[interval]
    if isinstance(chunk, Sequence) or grid.step_ms != grid.longest_ms:
        return len(opens_of(chunk, interval))
    from pyarrow import compute

    offsets = compute.subtract(chunk["open_time"].cast("int64"), grid.origin_ms)
    steps = compute.multiply(compute.divide(offsets, grid.step_ms), grid.step_ms)
    count: int = compute.sum(compute.equal(steps, offsets)).as_py() or 0
    return count


def _within_reach(end_ms: int) -> int:
    """Bound `end_ms`: databases store no times of later centuries."""
    return min(end_ms, END_MS)


@frozen(kw_only=True)
class KlineRange:
    """Closed candles of one series that open in [`first_ms`, `end_ms`)."""

    venue: str
    symbol: str
    interval: str
    first_ms: int = 0
    end_ms: int = field(default=END_MS, converter=_within_reach)
    is_newest_first: bool = False
    limit: int | None = None
    """The most candles that are wanted, from the end that comes first; None for all."""

    @property
    def series(self) -> SeriesName:
        """Venue, symbol and interval."""
        return self.venue, self.symbol, self.interval

    def window(self, candles: int) -> KlineRange:
        """Return the end that comes first, as long as so many candles last on the grid."""
        interval = Interval(self.interval)
        if self.is_newest_first:
            first_ms = interval.shifted(interval.first_open(self.end_ms), -candles)
            return evolve(self, first_ms=max(self.first_ms, first_ms))
        end_ms = interval.shifted(interval.open_at(self.first_ms), candles)
        return evolve(self, end_ms=min(self.end_ms, end_ms))

    def without(self, read: KlineRange, rows: Sequence[Kline], most: int) -> KlineRange | None:
        """Return what is left when window `read`, asked for `most` rows, has given `rows`."""
        limit = None if self.limit is None else self.limit - len(rows)
        if limit == 0:
            return None
        is_cut = len(rows) == most
        if self.is_newest_first:
            end_ms = rows[-1].open_time if is_cut else read.first_ms
            rest = evolve(self, end_ms=end_ms, limit=limit)
        else:
            first_ms = rows[-1].open_time + 1 if is_cut else read.end_ms
            rest = evolve(self, first_ms=first_ms, limit=limit)
        return rest if rest.first_ms < rest.end_ms else None


@define(eq=False)
class Reader:
    """Reads beside the writer: neither waits for the other.

    Up to `READS_AT_ONCE` reads run at once; more wait for their turn, in the order they came.
    """

    _query: Callable[[KlineRange, int], Awaitable[list[Kline]]]
    """Returns the first rows of a range in its order, up to so many; raises `StoreError`s."""
    _table: Callable[[KlineRange], Awaitable[CandleTable]] | None = None
    """Returns all candles of a range, ascending, if the store has tables; raises `StoreError`s."""

    async def chunk(self, wanted: KlineRange) -> tuple[Chunk, KlineRange | None]:
        """Return the next candles of `wanted`, ascending, and what is left: None at its end.

        They are a table if the store has tables: then no candle becomes an object of Python's.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._table is None:
            return await self.read(wanted)
        window = wanted.window(TABLE_ROWS)
        return await self._table(window), wanted.without(window, (), TABLE_ROWS)

    async def read(
        self, wanted: KlineRange, *, most: int = CHUNK_ROWS
    ) -> tuple[list[Kline], KlineRange | None]:
        """Return the next candles of `wanted` in its order, up to `most`, and what is left.

        Nothing is left, None, where the range ends. Then, and only then, there may be no candles.

        Raises:
            StoreError: the store cannot be read.
        """
        most = most if wanted.limit is None else min(most, wanted.limit)
        rest: KlineRange | None = wanted if wanted.first_ms < wanted.end_ms else None
        rows: list[Kline] = []
        candles = most
        while rest is not None and not rows:
            window = rest.window(candles)
            rows = await self._query(window, most)
            rest = rest.without(window, rows, most)
            candles *= _WIDER
        return rows, rest


@define(eq=False)
class Shared(Generic[Resource]):
    """Sessions or connections that readers use in turn, each by one of them at a time."""

    _idle: list[Resource]
    _turns: trio.CapacityLimiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = trio.CapacityLimiter(len(self._idle))

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Resource]:
        """Wait for one of them, and have it for the block."""
        async with self._turns:
            resource = self._idle.pop()
            try:
                yield resource
            finally:
                self._idle.append(resource)
