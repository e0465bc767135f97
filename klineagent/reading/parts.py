"""Documents as they are sent: read, written and handed on part by part."""

from __future__ import annotations

from collections import deque

import trio
from attrs import define, field

from klineagent.core.kline import Kline
from klineagent.reading.documents import Document
from klineagent.reading.ranges import SeriesCandles

# Each takes some passes of the scheduler, which are long where much is recorded; copying it takes
# half a millisecond.
PIECE_BYTES = 1024 * 1024
# They become text on the event loop: 5 ms.
ROWS_AT_ONCE = 500


def _deque(series: list[SeriesCandles]) -> deque[SeriesCandles]:
    return deque(series)


@define(eq=False)
class DocumentParts:
    """Iterates over the bytes of a document; after the first an error must cut the connection."""

    _document: Document
    _series: deque[SeriesCandles] = field(converter=_deque)
    _turn: trio.Lock
    """One part of all documents is read and written at a time."""
    _ready: memoryview = field(default=memoryview(b""), init=False)
    _is_over: bool = field(default=False, init=False)

    async def prepare(self) -> None:
        """Write the beginning, and read the first candles.

        Raises:
            NotReadable: not all of the candles are there.
        """
        self._ready = memoryview(self._document.begin() + await self._next())

    def __aiter__(self) -> DocumentParts:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            self._ready = memoryview(await self._next())
        piece, self._ready = self._ready[:PIECE_BYTES], self._ready[PIECE_BYTES:]
        return piece.tobytes()

    async def _next(self) -> bytes:
        """Return the next part; the last is the end."""
        if not self._series:
            self._is_over = True
            return self._document.end()
        async with self._turn:
            series = self._series[0]
            chunk = await series.part()
            if chunk is None:
                self._series.popleft()
                return b""
            if isinstance(chunk, list):
                return await self._of_rows(chunk)
            return await trio.to_thread.run_sync(self._document.table, series.name, chunk)

    async def _of_rows(self, rows: list[Kline]) -> bytes:
        pieces = []
        for at in range(0, len(rows), ROWS_AT_ONCE):
            pieces.append(self._document.rows(rows[at : at + ROWS_AT_ONCE]))
            await trio.lowlevel.checkpoint()
        return b"".join(pieces)
