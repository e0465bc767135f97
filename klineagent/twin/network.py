"""The twin as an in-process network: a `klineagent.exchange.network.Network`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx2
import trio
from attrs import frozen

from klineagent.core.errors import ExchangeUnreachable
from klineagent.twin.exchange import Exchange
from klineagent.twin.server import converse
from klineagent.twin.socket.memory_pair import open_memory_pair

_UNKNOWN = "no such host"


@frozen
class TwinNetwork:
    """A network on which every host is the exchange, or each host one of several exchanges.

    Sockets are memory streams to the same server as real ones, so a virtual clock stays exact.
    They buffer any amount of data, so a client that does not read never counts as slow. Connections
    run in `nursery` and end with it.
    """

    _exchange: Exchange | Mapping[str, Exchange]
    """The exchange, or exchanges by host."""
    _nursery: trio.Nursery

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        """Connect to the exchange of the host in `url`: it has one port and no TLS here.

        Raises:
            ExchangeUnreachable: there is an outage, or no such host.
        """
        await trio.lowlevel.checkpoint()
        exchange = self._at(url)
        if exchange is None:
            raise ExchangeUnreachable(f"cannot connect to {url.host}: {_UNKNOWN}")
        if not exchange.connections.is_online:
            exchange.connections.attempted()
            raise ExchangeUnreachable(f"cannot connect to {url.host}: connection refused")
        ours, theirs = open_memory_pair()
        self._nursery.start_soon(converse, exchange, theirs)
        return ours

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        """An HTTP transport without sockets: requests go directly to an exchange's REST API."""
        return _RestTransport(self._at)

    def _at(self, url: httpx2.URL) -> Exchange | None:
        """The exchange at the host of `url`."""
        if isinstance(self._exchange, Exchange):
            return self._exchange
        return self._exchange.get(url.host)


@frozen
class _RestTransport(httpx2.AsyncBaseTransport):
    _at: Callable[[httpx2.URL], Exchange | None]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        exchange = self._at(request.url)
        if exchange is None:
            raise httpx2.ConnectError(_UNKNOWN, request=request)
        connections = exchange.connections
        if not connections.is_online:
            raise httpx2.ConnectError("connection refused", request=request)
        answer = None
        with trio.CancelScope() as link, connections.cutting(link):
            answer = await exchange.answer(
                request.method, request.url.path, dict(request.url.params)
            )
        if answer is None:
            raise httpx2.ReadError("connection reset by peer", request=request)
        return httpx2.Response(answer.status, headers=list(answer.headers), content=answer.body)
