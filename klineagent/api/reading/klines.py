"""Klines as the exchange's own REST API answers them: from memory at once, or through the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import h11
from attrs import define
from quart import Blueprint, Response, request

from klineagent.api.guard import Guard
from klineagent.api.reading.forwarding import forwarded
from klineagent.api.server.shortcuts import ReadyAnswer, passed
from klineagent.core.errors import NotReadable, NotServed, RequestError
from klineagent.exchange.venues import SPOT, VENUES, Venue
from klineagent.reading.candles import CandleReader, ReadFrom
from klineagent.reading.forward import Forwarder
from klineagent.reading.request import (
    CandleRequest,
    read_continuous_request,
    read_klines_request,
)
from klineagent.reading.rows import body_of, in_microseconds
from klineagent.series.venues import RunningVenue

JSON = "application/json;charset=UTF-8"
_SOURCE = "X-Klineagent-Source"
_TIME_UNIT = "X-MBX-TIME-UNIT"
ReadRequest = Callable[[Mapping[str, str], Venue], CandleRequest]
_READY = ((b"content-type", JSON.encode()), (_SOURCE.lower().encode(), ReadFrom.TAIL.encode()))
_BY_PATH = {venue.klines_path.encode(): venue for venue in VENUES.values()}


def add_klines_routes(
    api: Blueprint,
    venue: Venue,
    reader: CandleReader,
    running: Callable[[], Awaitable[RunningVenue]],
    forwarder: Forwarder | None,
) -> None:
    """Add the klines of `venue`; what is not recorded is the exchange's to answer, if it may."""

    async def answer(asked: CandleRequest) -> Response:
        rows, source = await reader.klines(await running(), asked)
        if venue == SPOT and request.headers.get(_TIME_UNIT, "").upper() == "MICROSECOND":
            rows = [*map(in_microseconds, rows)]
        return Response(body_of(rows), content_type=JSON, headers={_SOURCE: source})

    async def answer_or_forward(read: ReadRequest) -> Response:
        try:
            return await answer(read(request.args.to_dict(), venue))
        except (NotReadable, NotServed):
            if forwarder is None:
                raise
            return await forwarded(forwarder, venue)

    @api.get(venue.klines_path)
    async def klines() -> Response:
        return await answer_or_forward(read_klines_request)

    if venue.perpetual_suffix is not None:

        @api.get(f"{venue.rest_prefix}/continuousKlines")
        async def continuous_klines() -> Response:
            return await answer_or_forward(read_continuous_request)


@define
class KlinesAtOnce:
    """Answers klines requests whose rows are in memory.

    Bots send hundreds of them at each full minute. The app takes a millisecond for one, and the
    rows take 50 us.
    """

    reader: CandleReader
    guard: Guard

    def __call__(self, asked: h11.Request) -> ReadyAnswer | None:
        """Answer a request, or leave it to the app: so all that is refused is refused there."""
        request = passed(asked, self.guard, _BY_PATH)
        if request is None or _TIME_UNIT.lower().encode() in request.headers:
            return None
        venue = _BY_PATH[request.path]
        if (running := self.reader.venues.get(venue.name)) is None:
            return None
        # As in the app, the first of equal names counts.
        parameters = dict(reversed(request.parameters))
        try:
            rows = self.reader.klines_at_once(running, read_klines_request(parameters, venue))
        except RequestError:
            return None
        return None if rows is None else ReadyAnswer(body_of(rows), _READY)
