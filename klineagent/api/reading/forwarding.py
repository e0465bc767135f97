"""Requests to the exchange's own paths that are passed on to it."""

from __future__ import annotations

from quart import Blueprint, Response, request

from klineagent.core.errors import NotServed
from klineagent.exchange.venues import Venue
from klineagent.reading.forward import Forwarder


def add_forwarding(api: Blueprint, venue: Venue, forwarder: Forwarder | None) -> None:
    """Add what is answered at the venue's paths that the agent does not answer itself."""

    @api.get(f"/{venue.rest_prefix.split('/')[1]}/<path:_>")
    async def others(_: str) -> Response:
        if forwarder is None:
            raise NotServed(f"{request.path} is not served here; --forward asks the exchange")
        return await forwarded(forwarder, venue)


async def forwarded(forwarder: Forwarder, venue: Venue) -> Response:
    """Pass the present request on; raises what `Forwarder.answer` does."""
    query = request.args.items(multi=True)
    answer = await forwarder.answer(venue, request.path, query)
    headers = {**answer.headers, "X-Klineagent-Source": "exchange"}
    return Response(answer.body, answer.status, headers)
