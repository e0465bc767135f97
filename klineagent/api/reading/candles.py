"""`GET /v1/candles` of the read server: closed candles as one document, whatever its length."""

from __future__ import annotations

from attrs import define, field
from quart import Response
from quart_trio import QuartTrio

from klineagent.api.models.candles import CandlesQuery
from klineagent.api.models.timestamps import read_moment
from klineagent.api.requests import interval_named, read_query
from klineagent.core.errors import InvalidRequest, NotReadable
from klineagent.exchange.venues import Venue, symbol_named
from klineagent.reading.candles import CandleReader, ClosedCandles
from klineagent.reading.documents import FORMATS, Document
from klineagent.reading.request import CandleRange

# The whole of Binance's minutes of some years; a client that reads nothing is cut much sooner.
DOCUMENT_WITHIN_S = 600


def add_candle_routes(app: QuartTrio, reader: CandleReader) -> None:
    """Add `GET /v1/candles`."""

    @app.get("/v1/candles")
    async def candles() -> Response:
        ranges, document = _asked(read_query(CandlesQuery), reader)
        body = DocumentBody(document, [await _opened(reader, *each) for each in ranges])
        # What is not there is refused with its status if that is found before the first row.
        await body.prepare()
        response = Response(body, content_type=document.content_type)
        # The server has a deadline for all its requests; Quart's own is a minute.
        response.timeout = None
        return response


def _asked(
    asked: CandlesQuery, reader: CandleReader
) -> tuple[list[tuple[Venue, CandleRange]], Document]:
    """Read what is wanted.

    Raises:
        InvalidRequest: a parameter is wrong.
    """
    if (make := FORMATS.get(asked.format)) is None:
        raise InvalidRequest(f"format: {asked.format!r} is none of {', '.join(FORMATS)}")
    first_ms = 0 if not asked.from_ else read_moment(asked.from_, field="from")
    end_ms = None if not asked.to else read_moment(asked.to, field="to")
    ranges = []
    for name in asked.symbol.split(","):
        venue, symbol = symbol_named(name, reader.venues.default, beside="", field="symbol")
        interval = interval_named(asked.interval, venue)
        wanted = CandleRange(
            symbol=symbol, interval=interval, first_ms=first_ms, end_ms=end_ms, last=asked.last
        )
        ranges.append((venue, wanted))
    return ranges, make()


async def _opened(reader: CandleReader, venue: Venue, wanted: CandleRange) -> ClosedCandles:
    if (running := reader.venues.get(venue.name)) is None:
        raise NotReadable(f"{venue.name} is not recorded")
    return await reader.closed(running, wanted)


@define(eq=False)
class DocumentBody:
    """The parts of a document as they are sent; an error after the first cuts the connection."""

    _document: Document
    _series: list[ClosedCandles]
    _ready: bytes = field(default=b"", init=False)
    _is_over: bool = field(default=False, init=False)

    async def prepare(self) -> None:
        """Write the beginning, and read the first candles.

        Raises:
            NotReadable: not all of the candles are there.
        """
        self._ready = self._document.begin()
        self._ready += await self._next()

    def __aiter__(self) -> DocumentBody:
        return self

    async def __anext__(self) -> bytes:
        if (part := self._ready or await self._next()) or not self._is_over:
            self._ready = b""
            return part
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        """Return the next part that is not empty; an empty one after the end."""
        while self._series:
            rows = await self._series[0].part()
            if rows:
                return self._document.part(rows)
            if rows is None:
                del self._series[0]
        if self._is_over:
            return b""
        self._is_over = True
        return self._document.end()
