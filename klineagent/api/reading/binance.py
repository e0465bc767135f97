"""The read server's app: klines as the exchange's own REST API answers them, for each venue."""

from __future__ import annotations

from quart import Blueprint, Response, request
from quart_trio import QuartTrio

from klineagent.api.app import json_app
from klineagent.api.guard import ANYONE, Guard
from klineagent.api.openapi import add_documents, json_response
from klineagent.api.reading.candles import add_candle_routes
from klineagent.api.reading.forwarding import add_forwarding
from klineagent.api.reading.klines import JSON, add_klines_routes
from klineagent.api.reading.newest import add_newest_routes
from klineagent.core.errors import NotReadable, ReadError
from klineagent.exchange.venues import VENUES, Venue
from klineagent.reading.candles import CandleReader
from klineagent.reading.exchange_info import ExchangeInfo
from klineagent.reading.forward import Forwarder
from klineagent.reading.kept_files import KeptFiles
from klineagent.reading.ranges import RangeReader
from klineagent.reading.request import read_symbols
from klineagent.series.venues import RunningVenue

_TITLE = "klineagent: reading"
_DESCRIPTION = (
    "Candles while they are recorded. The exchange's documentation describes what is below `/fapi`,"
    " `/dapi` and `/api`, and the websockets."
)


def read_app(
    reader: CandleReader,
    guard: Guard = ANYONE,
    *,
    ranges: RangeReader | None = None,
    files: KeptFiles | None = None,
) -> QuartTrio:
    """Make the app of the read server; the caller runs `files`."""
    app = json_app(__name__, guard)
    ranges = ranges or RangeReader(venues=reader.venues, writer=reader.writer)
    add_candle_routes(app, ranges, files or KeptFiles())
    add_newest_routes(app, ranges)
    add_documents(app, guard, title=_TITLE, description=_DESCRIPTION)
    info, forwarder = ExchangeInfo(), Forwarder(venues=reader.venues)
    for venue in VENUES.values():
        forwards = forwarder if venue in reader.forwards else None
        app.register_blueprint(_rest_api_of(venue, reader, info, forwards))
    return app


def _rest_api_of(
    venue: Venue, reader: CandleReader, info: ExchangeInfo, forwarder: Forwarder | None
) -> Blueprint:
    """Make the routes below the REST prefix of one venue; errors are written as it writes them."""
    api = Blueprint(venue.name, __name__)

    api.register_error_handler(ReadError, _refusal)
    add_forwarding(api, venue, forwarder)

    async def running() -> RunningVenue:
        if forwarder is not None:
            return await reader.venues.open(venue)
        if (found := reader.venues.get(venue.name)) is None:
            raise NotReadable(
                f"{venue.name} is not recorded; `klineagent add {venue.name}:SYMBOL` opens it"
            )
        return found

    add_klines_routes(api, venue, reader, running, forwarder)

    @api.get(venue.time_path)
    async def server_time() -> Response:
        return json_response({"serverTime": (await running()).context.time.now_ms()}, 200)

    @api.get(venue.exchange_info_path)
    async def exchange_info() -> Response:
        if symbols := read_symbols(request.args.to_dict(), venue):
            return Response(await info.of_symbols(await running(), symbols), content_type=JSON)
        headers = {"Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return Response(await info.plain(await running()), content_type=JSON, headers=headers)
        body = await info.compressed(await running())
        return Response(body, content_type=JSON, headers={**headers, "Content-Encoding": "gzip"})

    @api.get(f"{venue.rest_prefix}/ping")
    async def ping() -> Response:
        return json_response({}, 200)

    return api


async def _refusal(error: ReadError) -> Response:
    response = json_response({"code": error.code, "msg": str(error)}, error.http_status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response
