"""The twin's server: HTTP until a client upgrades to a websocket, both on one port."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit

import h11
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from klineagent.twin.archive.answer import ArchiveAnswer
from klineagent.twin.archive.archive import PATH as ARCHIVE_PATH
from klineagent.twin.archive.archive import PublicArchive
from klineagent.twin.exchange import Exchange
from klineagent.twin.rest.api import RestAnswer
from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.socket.memory_pair import MemoryEnd
from klineagent.twin.socket.protocol import SocketProtocol
from klineagent.twin.socket.tls import TlsServerStream

_PLAIN_TEXT = (("Content-Type", "text/plain"),)
_BAD_REQUEST = RestAnswer(400, _PLAIN_TEXT, b"Bad Request")
_NO_SUCH_SOCKET = RestAnswer(404, _PLAIN_TEXT, b"Not Found")
# SO_LINGER with zero timeout: closing resets the connection and drops unsent data.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def serve_exchange(
    exchange: Exchange,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    archive: PublicArchive | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve websockets and REST on a real port, with TLS or without; port 0 picks a free one.

    An `archive` is at the path `/archive` of the same port.

    Reports the bound (host, port) to `task_status`. In an outage the port is closed, so connections
    are refused; afterwards the same port is bound again.

    Raises:
        OSError: the port cannot be bound.
    """

    async def serve(stream: trio.SocketStream) -> None:
        await converse(exchange, TlsServerStream(stream, tls) if tls else stream, archive)

    listeners = await trio.open_tcp_listeners(port, host=host)
    bound_host, bound_port = listeners[0].socket.getsockname()[:2]
    # Connections outlive their listener: an outage must reset them, not merely cancel them.
    async with trio.open_nursery() as talks:
        task_status.started((bound_host, bound_port))
        while True:
            with trio.CancelScope() as link, exchange.connections.cutting(link):
                await trio.serve_listeners(serve, listeners, handler_nursery=talks)
            await exchange.connections.until_online()
            listeners = await trio.open_tcp_listeners(bound_port, host=bound_host)


async def converse(
    exchange: Exchange, stream: trio.abc.Stream, archive: PublicArchive | None = None
) -> None:
    """Serve one HTTP or websocket connection until either side ends it, and close it."""
    try:
        with trio.CancelScope() as link, exchange.connections.cutting(link):
            await _answer_requests(exchange, archive, stream, link)
        if link.cancelled_caught:
            _reset(stream)
    except trio.BrokenResourceError:
        pass  # The client is gone.
    finally:
        await trio.aclose_forcefully(stream)


def _reset(stream: trio.abc.Stream) -> None:
    """Make closing the stream reset the connection."""
    if isinstance(stream, TlsServerStream):
        stream = stream.transport
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    elif isinstance(stream, MemoryEnd):
        stream.reset()


async def _answer_requests(
    exchange: Exchange,
    archive: PublicArchive | None,
    stream: trio.abc.Stream,
    link: trio.CancelScope,
) -> None:
    """Answer HTTP requests until the client closes the connection or upgrades it."""
    http = h11.Connection(h11.SERVER)
    while True:
        try:
            request = await _next_request(http, stream)
        except h11.RemoteProtocolError:
            await _send(http, stream, _BAD_REQUEST)
            return
        if request is None:
            return
        target = request.target.decode("ascii")
        if _wants_socket(request):
            exchange.connections.attempted()
            protocol = exchange.open_protocol(target)
            if protocol is not None:
                await _serve_socket(exchange, stream, link, http, request, protocol)
                return
            answer: RestAnswer | ArchiveAnswer | None = _NO_SUCH_SOCKET
        else:
            answer = await _answer(exchange, archive, request)
        if answer is None:
            link.cancel(reason="nothing is answered")
            await trio.lowlevel.checkpoint()
            return
        if isinstance(answer, ArchiveAnswer):
            await _send_slowly(http, stream, answer, link)
        else:
            await _send(http, stream, answer)
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return
        http.start_next_cycle()


async def _answer(
    exchange: Exchange, archive: PublicArchive | None, request: h11.Request
) -> RestAnswer | ArchiveAnswer | None:
    """Answer a request for something else than a socket."""
    method, target = request.method.decode("ascii"), request.target.decode("ascii")
    url = urlsplit(target)
    if archive is not None and (url.path + "/").startswith(f"{ARCHIVE_PATH}/"):
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        return await archive.answer(method, target, headers)
    return await exchange.answer(
        method, url.path, dict(parse_qsl(url.query, keep_blank_values=True))
    )


async def _next_request(http: h11.Connection, stream: trio.abc.Stream) -> h11.Request | None:
    """Read the next request and discard its body; None at the end of the connection.

    Raises:
        h11.RemoteProtocolError: the client does not speak HTTP.
    """
    request = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None


async def _send(http: h11.Connection, stream: trio.abc.Stream, answer: RestAnswer) -> None:
    length = ("Content-Length", str(len(answer.body)))
    headers = [*answer.headers, length, ("Server", "klineagent simulate")]
    parts = (
        http.send(h11.Response(status_code=answer.status, headers=headers)),
        http.send(h11.Data(data=answer.body)),
        http.send(h11.EndOfMessage()),
    )
    await stream.send_all(b"".join(part for part in parts if part))


async def _send_slowly(
    http: h11.Connection, stream: trio.abc.Stream, answer: ArchiveAnswer, link: trio.CancelScope
) -> None:
    """Send an answer at its pace; cancel `link` where it is cut."""
    headers = [*answer.headers, ("Server", "klineagent simulate")]
    await stream.send_all(http.send(h11.Response(status_code=answer.status, headers=headers)))
    for takes_s, piece in answer.pieces():
        await trio.sleep(takes_s)
        await stream.send_all(http.send(h11.Data(data=piece)))
    if answer.is_cut:
        link.cancel(reason="the body is cut")
        await trio.lowlevel.checkpoint()
    await stream.send_all(http.send(h11.EndOfMessage()))


def _wants_socket(request: h11.Request) -> bool:
    return any(
        name == b"upgrade" and value.lower() == b"websocket" for name, value in request.headers
    )


async def _serve_socket(
    exchange: Exchange,
    stream: trio.abc.Stream,
    link: trio.CancelScope,
    http: h11.Connection,
    request: h11.Request,
    protocol: SocketProtocol,
) -> None:
    """Finish the handshake of `request` and serve the socket."""
    if exchange.faults.stalls_newcomer():
        async for _ in stream:
            pass
        return
    handshake = H11Handshake(ConnectionType.SERVER)
    try:
        handshake.initiate_upgrade_connection(list(request.headers), request.target)
    except RemoteProtocolError:
        await _send(http, stream, _BAD_REQUEST)
        return
    await stream.send_all(handshake.send(AcceptConnection()))
    early, _ = http.trailing_data
    client = ClientConnection(
        protocol=protocol,
        link=link,
        stream=stream,
        wsproto=Connection(ConnectionType.SERVER, trailing_data=early),
        first_ping_s=exchange.first_ping_s(),
        now_ms=exchange.clock.now_ms,
        refill=exchange.refill,
        subscribed=exchange.note_subscriptions,
    )
    with exchange.connections.connected(client):
        await client.serve()
