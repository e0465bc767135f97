"""`GET /v1/candles` of the read server: candles as one document, whatever its length."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from attrs import define
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import PreconditionFailed

from klineagent.api.models.candles import CandlesQuery
from klineagent.api.models.timestamps import read_moment
from klineagent.api.openapi import operation
from klineagent.api.reading.selection import series_named
from klineagent.api.requests import read_query
from klineagent.api.server.middleware import FewAtOnce
from klineagent.core.cooperate import in_portions
from klineagent.core.errors import InvalidRequest, NotReadable
from klineagent.reading.documents import CONTENT_TYPES, new_document
from klineagent.reading.kept_files import DocumentFile, KeptFiles
from klineagent.reading.parts import PIECE_BYTES, DocumentParts
from klineagent.reading.ranges import SERIES_AT_ONCE, RangeReader, RecordedSeries, Wanted
from klineagent.reading.request import CandleRange

# The whole of Binance's minutes of some years; a client that reads nothing is cut much sooner.
DOCUMENT_WITHIN_S = 600
# Each takes some queries and a few kilobytes.
MOST_SERIES = 10_000
CANDLES = "/v1/candles"
# Each takes up to 30 MB, and one whose client reads slowly takes it for minutes.
DOCUMENTS_AT_ONCE = 4
few_documents = partial(FewAtOnce, path=CANDLES, wait_s=5)


def add_candle_routes(app: QuartTrio, reader: RangeReader, files: KeptFiles) -> None:
    """Add `GET /v1/candles`."""

    @app.get(CANDLES)
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
        # A client of HTTP/1.0, as a proxy may be, could not tell a cut from the end.
        is_whole_first = asked.format == "parquet" or reader.lags or request.http_version == "1.0"
        if is_whole_first or request.method == "HEAD" or _asks_for_a_file():
            make = partial(_filed, asked, reader, files)
            response = await _from_file(files, make)
        else:
            response = Response(await _begun(asked, reader))
        response.content_type = CONTENT_TYPES[asked.format]
        # The server has a deadline for all its requests; Quart's own is a minute.
        response.timeout = None
        return response


def _asks_for_a_file() -> bool:
    return any(name in request.headers for name in ("Range", "If-Match"))


async def _begun(asked: CandlesQuery, reader: RangeReader) -> DocumentParts:
    """Begin a document, and read its first candles.

    Raises:
        RequestError: it cannot be answered.
    """
    with_forming = asked.state == "all"
    document = new_document(asked.format, with_forming=with_forming)
    series = await reader.open(await _wanted(asked, reader), with_forming=with_forming)
    parts = DocumentParts(document, series, reader.turn)
    await parts.prepare()
    return parts


async def _filed(asked: CandlesQuery, reader: RangeReader, files: KeptFiles) -> DocumentFile:
    return await files.written(await _begun(asked, reader))


async def _from_file(files: KeptFiles, make: Callable[[], Awaitable[DocumentFile]]) -> Response:
    """Answer with a whole file, or with the range of it that is asked for; HEAD with its length.

    Two files of one document differ. So a client must not get ranges of both: one that goes on
    where it was gets a range of the file that it began with, or a whole file.

    Raises:
        PreconditionFailed: the file that the client names is not kept.
    """
    name, head = request.full_path, request.headers
    kept, asked = files.kept(name), _asked_range()
    if (match := head.get("If-Match", "*").strip()) != "*" and (
        kept is None or kept.etag not in map(str.strip, match.split(","))
    ):
        raise PreconditionFailed
    if "If-Range" in head:
        is_known = kept is not None and head["If-Range"].strip() == kept.etag
    else:  # from its first byte on, or its last ones: a client begins
        is_known = kept is not None or (asked is not None and asked[0] <= 0)
    if request.method == "HEAD" or (asked is not None and is_known):
        file = await files.get(name, make)
    else:
        file, asked = kept if "If-Match" in head and kept else await make(), None
    return _part_of(file, asked if request.method == "GET" else None)


def _asked_range() -> tuple[int, int | None] | None:
    """Return the first byte that is asked for, from the end if negative, and the one after them."""
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    return asked.ranges[0]


def _part_of(file: DocumentFile, asked: tuple[int, int | None] | None) -> Response:
    first, end, status = 0, file.size, HTTPStatus.OK
    if asked is not None:
        status, (first, last) = HTTPStatus.PARTIAL_CONTENT, asked
        first = max(0, first + file.size) if first < 0 else first
        end = min(end, last or end)
        if first >= end:
            return Response(b"", 416, headers={"Content-Range": f"bytes */{file.size}"})
    response = Response(b"" if request.method == "HEAD" else FilePieces(file, first, end), status)
    response.content_length = end - first
    response.headers.update({"Accept-Ranges": "bytes", "ETag": file.etag})
    if asked is not None:
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


async def _wanted(asked: CandlesQuery, reader: RangeReader) -> list[Wanted]:
    """Read what is wanted.

    Raises:
        InvalidRequest: a parameter is wrong, or it is too much for one document.
        NotReadable: a series is not recorded.
    """
    first_ms = 0 if not asked.from_ else read_moment(asked.from_, field="from")
    end_ms = None if not asked.to else read_moment(asked.to, field="to")
    if end_ms is not None and end_ms < first_ms:
        raise InvalidRequest(f"from: {asked.from_} is after to, {asked.to}")
    series = await series_named(asked.symbol, asked.interval, reader)
    if len(series) > MOST_SERIES:
        raise InvalidRequest(f"{len(series)} series, of at most {MOST_SERIES} in one document")

    def of_one(each: RecordedSeries) -> Wanted:
        candles = CandleRange(
            symbol=each.subscription.symbol,
            interval=each.subscription.interval,
            first_ms=first_ms,
            end_ms=end_ms,
            last=asked.last,
        )
        return each, candles

    return await in_portions(of_one, series, at_once=SERIES_AT_ONCE)
