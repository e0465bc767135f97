"""The twin as an in-process network: a `klineagent.exchange.network.Network`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Self

import httpx2
import trio
from attrs import define, field, frozen

from klineagent.core.errors import ExchangeUnreachable
from klineagent.twin.archive.answer import ArchiveAnswer
from klineagent.twin.archive.archive import HOSTS, PublicArchive
from klineagent.twin.exchange import Exchange
from klineagent.twin.server import converse
from klineagent.twin.socket.memory_pair import open_memory_pair

_UNKNOWN = "no such host"
_RESET = "connection reset by peer"


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
    _archive: PublicArchive | None = None
    """The public archive, at its own hosts."""

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
        return _RestTransport(self._at, self._archive)

    def _at(self, url: httpx2.URL) -> Exchange | None:
        """The exchange at the host of `url`."""
        if isinstance(self._exchange, Exchange):
            return self._exchange
        return self._exchange.get(url.host)


@frozen
class _RestTransport(httpx2.AsyncBaseTransport):
    _at: Callable[[httpx2.URL], Exchange | None]
    _archive: PublicArchive | None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        if self._archive is not None and request.url.host in HOSTS:
            return await _ask(self._archive, request)
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
            raise httpx2.ReadError(_RESET, request=request)
        return httpx2.Response(answer.status, headers=list(answer.headers), content=answer.body)


async def _ask(archive: PublicArchive, request: httpx2.Request) -> httpx2.Response:
    """Ask the archive.

    Raises:
        httpx2.ReadError: the connection is reset.
    """
    target = request.url.raw_path.decode("ascii")
    answer = await archive.answer(request.method, target, request.headers)
    if answer is None:
        raise httpx2.ReadError(_RESET, request=request)
    return httpx2.Response(answer.status, headers=list(answer.headers), stream=_Body(answer))


@define
class _Body(httpx2.AsyncByteStream):
    _answer: ArchiveAnswer
    _pieces: Iterator[tuple[float, bytes]] = field(init=False)

    @_pieces.default
    def _begin(self) -> Iterator[tuple[float, bytes]]:
        return self._answer.pieces()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for takes_s, piece in self._pieces:
            await trio.sleep(takes_s)
            return piece
        if self._answer.is_cut:
            raise httpx2.ReadError(_RESET)
        raise StopAsyncIteration
