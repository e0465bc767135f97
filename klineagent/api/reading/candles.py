"""`GET /v1/candles` of the read server: candles as one document, whatever its length."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from attrs import define
from quart import Response, request
from quart_trio import QuartTrio

from klineagent.api.models.candles import CandlesQuery
from klineagent.api.models.timestamps import read_moment
from klineagent.api.openapi import operation
from klineagent.api.reading.selection import series_named
from klineagent.api.requests import read_query
from klineagent.api.server.middleware import FewAtOnce
from klineagent.core.errors import InvalidRequest, NotReadable
from klineagent.reading.documents import CONTENT_TYPES, new_document
from klineagent.reading.kept_files import DocumentFile, KeptFiles, written
from klineagent.reading.parts import PIECE_BYTES, DocumentParts
from klineagent.reading.ranges import RangeReader, RecordedSeries
from klineagent.reading.request import CandleRange

# The whole of Binance's minutes of some years; a client that reads nothing is cut much sooner.
DOCUMENT_WITHIN_S = 600
_PATH = "/v1/candles"


# Each takes up to 30 MB, and one whose client reads slowly takes it for minutes.
few_documents = partial(FewAtOnce, path=_PATH, at_once=4, wait_s=5)


def add_candle_routes(app: QuartTrio, reader: RangeReader, files: KeptFiles) -> None:
    """Add `GET /v1/candles`."""

    @app.get(_PATH)
    @operation(
        tuple(CONTENT_TYPES.values()),
        tag="data",
        query=CandlesQuery,
        raises=[InvalidRequest, NotReadable],
    )
    async def candles() -> Response:
        """Return candles as one document, series by series, each ascending.

        No candle is left out: where some are missing the answer is 503, or its connection is cut.
        HEAD and Range are answered, too.
        """
        asked = read_query(CandlesQuery)
        # What is not there is refused with its status if that is found before the first byte.
        if request.method == "HEAD" or "Range" in request.headers:
            make = partial(_filed, asked, reader)
            response = _part_of(await files.get(request.full_path, make))
        elif asked.format == "parquet" or reader.lags:
            response = _part_of(await _filed(asked, reader))
        else:
            response = Response(await _begun(asked, reader))
        response.content_type = CONTENT_TYPES[asked.format]
        # The server has a deadline for all its requests; Quart's own is a minute.
        response.timeout = None
        return response


async def _begun(asked: CandlesQuery, reader: RangeReader) -> DocumentParts:
    """Begin a document, and read its first candles.

    Raises:
        RequestError: it cannot be answered.
    """
    with_forming = asked.state == "all"
    document = new_document(asked.format, with_forming=with_forming)
    series = await reader.open(_wanted(asked, reader), with_forming=with_forming)
    parts = DocumentParts(document, series, reader.turn)
    await parts.prepare()
    return parts


async def _filed(asked: CandlesQuery, reader: RangeReader) -> DocumentFile:
    return await written(await _begun(asked, reader))


def _part_of(file: DocumentFile) -> Response:
    """Answer with the range that is asked for, or with the whole file; HEAD with its length."""
    first, end, status = 0, file.size, HTTPStatus.OK
    if (asked := request.range) is not None and asked.units == "bytes" and len(asked.ranges) == 1:
        status, (first, last) = HTTPStatus.PARTIAL_CONTENT, asked.ranges[0]
        first = max(0, first + file.size) if first < 0 else first
        end = min(end, last or end)
        if first >= end:
            return Response(b"", 416, headers={"Content-Range": f"bytes */{file.size}"})
    response = Response(b"" if request.method == "HEAD" else FilePieces(file, first, end), status)
    response.content_length = end - first
    response.headers["Accept-Ranges"] = "bytes"
    if status is HTTPStatus.PARTIAL_CONTENT:
        response.headers["Content-Range"] = f"bytes {first}-{end - 1}/{file.size}"
    return response


@define(eq=False)
class FilePieces:
    """A range of a file in pieces."""

    _file: DocumentFile
    _first: int
    _end: int

    def __aiter__(self) -> FilePieces:
        return self

    async def __anext__(self) -> bytes:
        if self._first >= self._end:
            raise StopAsyncIteration
        piece = await self._file.read(self._first, min(PIECE_BYTES, self._end - self._first))
        self._first += len(piece)
        return piece


def _wanted(asked: CandlesQuery, reader: RangeReader) -> list[tuple[RecordedSeries, CandleRange]]:
    """Read what is wanted.

    Raises:
        InvalidRequest: a parameter is wrong.
        NotReadable: a series is not recorded.
    """
    first_ms = 0 if not asked.from_ else read_moment(asked.from_, field="from")
    end_ms = None if not asked.to else read_moment(asked.to, field="to")
    return [
        (
            each,
            CandleRange(
                symbol=each.subscription.symbol,
                interval=each.subscription.interval,
                first_ms=first_ms,
                end_ms=end_ms,
                last=asked.last,
            ),
        )
        for each in series_named(asked.symbol, asked.interval, reader)
    ]
