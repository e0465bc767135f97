"""Reads ranges of stored candles, apart from the write side of the store.

A range of any length is read in chunks, each a query of its own, so that memory is bounded and a
reader that is cancelled leaves nothing behind but the chunk under way:

    while rows := await reader.read(wanted, most=CHUNK_ROWS):
        ...
        wanted = wanted.after(rows)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import trio
from attrs import define, evolve, field, frozen

from klineagent.core.kline import Kline

# A chunk of 5,000 rows takes some 20 ms of a core, which is what a cancellation may have to wait.
CHUNK_ROWS = 5_000
# On two cores more threads read no faster, and each embedded session takes some MB.
READS_AT_ONCE = 2
_END_MS = 4_102_444_800_000  # 2100-01-01

Resource = TypeVar("Resource")


@frozen(kw_only=True)
class KlineRange:
    """Closed candles of one series that open in [`first_ms`, `end_ms`)."""

    venue: str
    symbol: str
    interval: str
    first_ms: int = 0
    end_ms: int = _END_MS
    is_newest_first: bool = False
    limit: int | None = None
    """The most candles that are wanted, from the end that comes first; None for all."""

    @classmethod
    def of(
        cls,
        venue: str,
        symbol: str,
        interval: str,
        first_ms: int | None,
        end_ms: int | None,
        *,
        newest: int | None,
    ) -> KlineRange:
        """Make the range of the `newest` candles, or all, newest first; None is no bound."""
        return cls(
            venue=venue,
            symbol=symbol,
            interval=interval,
            first_ms=0 if first_ms is None else first_ms,
            end_ms=_END_MS if end_ms is None else min(end_ms, _END_MS),
            is_newest_first=True,
            limit=newest,
        )

    @property
    def series(self) -> tuple[str, str, str]:
        """Venue, symbol and interval."""
        return self.venue, self.symbol, self.interval

    @property
    def is_unbounded(self) -> bool:
        """Whether it holds candles of any time."""
        return (self.first_ms, self.end_ms) == (0, _END_MS)

    def most(self, rows: int) -> int:
        """Return how many of the next `rows` candles are wanted."""
        return rows if self.limit is None else min(rows, self.limit)

    def after(self, rows: Sequence[Kline]) -> KlineRange:
        """Return what is left of the range once `rows`, which came next, have been read."""
        limit = None if self.limit is None else self.limit - len(rows)
        if self.is_newest_first:
            return evolve(self, end_ms=rows[-1].open_time, limit=limit)
        return evolve(self, first_ms=rows[-1].open_time + 1, limit=limit)


class Reader(Protocol):
    """Reads beside the writer: neither waits for the other.

    Up to `READS_AT_ONCE` reads run at once; more wait for their turn, in the order they came.
    """

    async def read(self, wanted: KlineRange, *, most: int = CHUNK_ROWS) -> list[Kline]:
        """Return the next candles of `wanted` in its order, up to `most`; none at its end.

        Raises:
            StoreError: the store cannot be read.
        """


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
