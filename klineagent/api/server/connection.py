"""One client's connection: hypercorn's, with a bound on everything a client could prolong.

    head of a request      16 KiB, complete 10 s after the connection (TLS included) or the previous
                           answer
    body                   64 KiB, complete 10 s after its head (app.py)
    answer                 64 KiB of it read every 3 s
    connections            a fixed number; one more closes the connection that has been idle longest
    protocol               HTTP/1.1; no HTTP/2, whose streams would evade these bounds; websockets
                           where the server was given a handler for them (upgrade.py)

A client that disconnects cancels its request.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import h11
import hypercorn.config
import msgspec
import structlog
import trio
from attrs import define, field
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr

from klineagent.api.models.contract import Error
from klineagent.api.server.shortcuts import NO_SHORTCUTS, ReadyAnswer, Shortcuts
from klineagent.api.server.upgrade import Upgrade, wants_socket

HEAD_BYTES = 16 * 1024
HEAD_WITHIN_S = 10
# How long a client may leave a piece of an answer unread. Long enough for a few lost packets, short
# enough for who stops us while such a client hangs on.
READ_WITHIN_S = 3
PIECE_BYTES = 64 * 1024
# Closing a socket with unread bytes resets the connection, and the client may lose the answer.
LINGER_S = 1

_REASONS = {
    400: "Bad Request: this is not HTTP/1.1",
    431: f"Request Header Fields Too Large: more than {HEAD_BYTES} bytes",
    501: "Not Implemented: no such transfer encoding",
}
_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 53\r\n"
    b"Content-Type: application/json\r\n\r\n"
    b'{"error":"Service Unavailable: too many connections"}'
)

log = structlog.get_logger()


class _Http11(H11Protocol):
    """HTTP/1.1 that reports errors as JSON, and takes shortcuts; it ignores other upgrades."""

    shortcuts: Shortcuts = NO_SHORTCUTS
    leave: Callable[[h11.Request, bytes], None]
    """The function to call with a request for a websocket, and with what came after it."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _create_stream(self, request: h11.Request) -> None:
        if self.shortcuts.sockets is not None and wants_socket(request):
            self.leave(request, self.connection.trailing_data[0])
            return
        if (answer := self.shortcuts.answer_of(request)) is not None:
            await self._send_at_once(answer)
            return
        plain = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=plain,
                http_version=request.http_version,
            )
        )

    async def _send_at_once(self, answer: ReadyAnswer) -> None:
        connection = cast("h11.Connection", self.connection)
        length = (b"content-length", b"%d" % len(answer.body))
        headers = [length, *answer.headers, *self.config.response_headers("h11")]
        parts = (
            connection.send(h11.Response(status_code=200, headers=headers, reason=b"OK")),
            connection.send(h11.Data(data=answer.body)),
            connection.send(h11.EndOfMessage()),
        )
        await self.send(RawData(b"".join(part or b"" for part in parts)))
        connection.next_event()  # the end of a request without a body
        if connection.our_state is h11.DONE and not self.context.terminated.is_set():
            connection.start_next_cycle()
            await self.send(Updated(idle=True))
        else:
            await self.send(Closed())

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if isinstance(event, h11.Response) and not event.reason:
            # Some programs show their users nothing else.
            phrase = HTTPStatus(event.status_code).phrase
            status, headers = event.status_code, event.headers
            event = h11.Response(status_code=status, headers=headers, reason=phrase)
        await super()._send_h11_event(event)

    async def _send_error_response(self, status_code: int) -> None:
        body = msgspec.json.encode(Error(_REASONS.get(status_code, _REASONS[400])))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


@define
class ConnectionSlots:
    """Counts connections up to `limit`, and closes idle ones to make room."""

    limit: int
    taken: int = 0
    _idle: dict[HttpConnection, None] = field(factory=dict, repr=False)
    """Connections without a running request, longest idle first."""

    def take(self) -> bool:
        """Take a slot, closing the longest idle connection if needed; False if none is idle."""
        if self.taken >= self.limit:
            if not self._idle:
                return False
            longest = next(iter(self._idle))
            self.set_idle(longest, is_idle=False)
            longest.end("closed to make room")
        self.taken += 1
        return True

    def leave(self, connection: HttpConnection) -> None:
        """Free the slot of `connection`."""
        self.set_idle(connection, is_idle=False)
        self.taken -= 1

    def end_idle(self) -> None:
        """Close all idle connections."""
        for connection in self._idle:
            connection.end("asked to stop")

    def set_idle(self, connection: HttpConnection, *, is_idle: bool) -> None:
        """Note whether `connection` waits for a request."""
        self._idle.pop(connection, None)
        if is_idle:
            self._idle[connection] = None


class HttpConnection(TCPServer):
    """Serves one client until either side closes the connection."""

    def __init__(
        self,
        app: AppWrapper,
        config: hypercorn.config.Config,
        context: WorkerContext,
        slots: ConnectionSlots,
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
        shortcuts: Shortcuts = NO_SHORTCUTS,
    ) -> None:
        super().__init__(app, config, context, {}, stream)  # type: ignore[arg-type]  # or plain TCP
        self._slots = slots
        self._shortcuts = shortcuts
        self._upgrade: Upgrade | None = None
        self._is_secure = isinstance(stream, trio.SSLStream)
        self._tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._ending = trio.CancelScope()
        self._lingers = False

    def end(self, reason: str) -> None:
        """End the connection."""
        self._ending.cancel(reason=reason)

    async def run(self) -> None:
        """Serve the client; errors end this connection only."""
        if not self._slots.take():
            await self._refuse()
            return
        self._wait(is_idle=True)
        try:
            with self._ending:
                await self._serve()
            if self._upgrade is not None and self._shortcuts.sockets is not None:
                await self._shortcuts.sockets(self._upgrade)
            if self._lingers:
                await self._linger()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone
        except* Exception:
            # A bug in one client's request must not end the other connections.
            log.exception("connection_failed")
        finally:
            self._slots.leave(self)
            await trio.aclose_forcefully(self.stream)

    async def protocol_send(self, event: Event) -> None:
        """Carry out an event of the protocol; see `TCPServer`."""
        match event:
            case RawData(data=data):
                await self._send(data)
            case Closed():
                self._lingers = True
                self.end("the protocol closed it")
            case Updated(idle=is_idle):
                self._wait(is_idle=is_idle)

    def _wait(self, *, is_idle: bool) -> None:
        """Start or stop the deadline for the next request's head.

        hypercorn uses a task for that, but then quart-trio would cancel the handler that starts it.
        """
        self._slots.set_idle(self, is_idle=is_idle)
        self._ending.deadline = trio.current_time() + HEAD_WITHIN_S if is_idle else math.inf

    async def _serve(self) -> None:
        if self._is_secure:
            await self.stream.do_handshake()
        socket = self._tcp.socket
        async with TaskGroup() as tasks:
            self._task_group = tasks
            self.protocol = protocol = _Http11(  # type: ignore[assignment]  # what that would wrap
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState(self.state),
                self._is_secure,
                parse_socket_addr(socket.family, socket.getpeername()),
                parse_socket_addr(socket.family, socket.getsockname()),
                self.protocol_send,
            )
            protocol.shortcuts, protocol.leave = self._shortcuts, self._leave
            await self._read_data()
            self.end("the client disconnected")

    def _leave(self, request: h11.Request, early: bytes) -> None:
        """End the part of the connection that is HTTP."""
        self._upgrade = Upgrade(request, early, self.stream)
        self.end("it becomes a websocket")

    async def _send(self, data: bytes) -> None:
        """Send in pieces; only a deadline, no cancellation, interrupts a piece."""
        async with self.send_lock:
            left = memoryview(data)
            while left := left[self._sent_at_once(left) :]:
                with trio.move_on_after(READ_WITHIN_S, shield=True) as patience:
                    try:
                        await self.stream.send_all(left[:PIECE_BYTES])
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        self.end("the client is gone")
                        return
                if patience.cancelled_caught:
                    self.end("the client does not read")
                    return
                left = left[PIECE_BYTES:]

    def _sent_at_once(self, data: memoryview) -> int:
        """Send as many bytes as the system has room for.

        A pass of the scheduler for every piece takes long where thousands of series are recorded.
        """
        if self._is_secure or len(data) <= PIECE_BYTES:
            return 0
        try:
            return os.write(self._tcp.socket.fileno(), data)
        except OSError:  # there is no room, or no client: `send_all` finds out
            return 0

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER_S):
            await self._tcp.send_eof()
            while await self._tcp.receive_some(PIECE_BYTES):
                pass

    async def _refuse(self) -> None:
        """Send 503, unless the client expects a TLS handshake first."""
        try:
            if not self._is_secure:
                with trio.move_on_after(LINGER_S):
                    await self._tcp.send_all(_NO_ROOM)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(self._tcp)
