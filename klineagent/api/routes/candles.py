"""`GET /v1/candles` of the read server: closed candles as one document, whatever its length."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from quart import Response
from quart_trio import QuartTrio

from klineagent.api.models.candles import CandlesQuery
from klineagent.api.models.timestamps import read_moment
from klineagent.api.requests import interval_named, read_query
from klineagent.core.errors import InvalidRequest, NotReadable
from klineagent.exchange.venues import Venue, split_name
from klineagent.reading.candles import CandleReader
from klineagent.reading.documents import FORMATS, Document
from klineagent.reading.request import CandleRange


def add_candle_routes(app: QuartTrio, reader: CandleReader) -> None:
    """Add `GET /v1/candles`."""

    @app.get("/v1/candles")
    async def candles() -> Response:
        ranges, document = _asked(read_query(CandlesQuery), reader)
        body = _body(reader, ranges, document)
        # What is refused before the first row is refused with its status.
        begin = await anext(body)
        response = Response(_after(begin, body), content_type=document.content_type)
        # A document may take minutes; a client that reads nothing is cut by its connection.
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
        try:
            venue, symbol = split_name(name, reader.venues.default)
        except ValueError as error:
            raise InvalidRequest(f"symbol: {error}") from error
        interval = interval_named(asked.interval, venue)
        wanted = CandleRange(
            symbol=symbol, interval=interval, first_ms=first_ms, end_ms=end_ms, last=asked.last
        )
        ranges.append((venue, wanted))
    return ranges, make()


async def _body(
    reader: CandleReader, ranges: Sequence[tuple[Venue, CandleRange]], document: Document
) -> AsyncIterator[bytes]:
    """Write the document; an error after the first part cuts the connection."""
    begun = False
    for venue, wanted in ranges:
        if (running := reader.venues.get(venue.name)) is None:
            raise NotReadable(f"{venue.name} is not recorded")
        async for rows in reader.closed(running, wanted):
            if not begun:
                begun = True
                yield document.begin()
            if rows:
                yield document.part(rows)
    yield document.end()


async def _after(begin: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begin
    async for part in body:
        yield part
