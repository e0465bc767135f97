"""The I/O half of a client's websocket: frames, pings, deadlines; `SocketProtocol` decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio
from attrs import define, field
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)

from klineagent.twin.socket.protocol import Hangup, SocketProtocol
from klineagent.twin.wire import frame_of

_CLOSE_WITHIN_S = 5
# A request for 1,024 streams with the longest names there are is far smaller.
_MOST_REQUEST_BYTES = 256 * 1024


@define(kw_only=True, eq=False)
class ClientConnection:
    """One connected client; `now_ms` is the exchange's clock, pings and limits use Trio's."""

    protocol: SocketProtocol
    first_ping_s: float
    now_ms: Callable[[], int]
    _refill: Callable[[ClientConnection], None] = lambda _client: None
    """Called when the send buffer is empty; it may send more."""
    _subscribed: Callable[[], None] = lambda: None
    """Called after each request, and when the connection begins."""
    _link: trio.CancelScope
    _stream: trio.abc.Stream
    _wsproto: Connection
    _send_buffer: SendBuffer = field(init=False)
    # Its deadline is that of the oldest unanswered ping or of the closing handshake.
    _scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    _unanswered: deque[bytes] = field(init=False, factory=deque)
    _request: str = field(init=False, default="")
    _reader_ended: trio.Event = field(init=False, factory=trio.Event)
    _is_stalled: bool = field(init=False, default=False)

    @_send_buffer.default
    def _open_send_buffer(self) -> SendBuffer:
        return SendBuffer(lambda: self._refill(self))

    def send(self, frames: bytes) -> None:
        """Queue whole frames; a client that is too slow is disconnected."""
        if not self._is_stalled and not self._send_buffer.put(frames):
            self._scope.cancel(reason="the client does not read")

    def reset(self) -> None:
        """Reset the connection, without a close frame."""
        self._link.cancel(reason="the connection is reset")

    def stall(self) -> None:
        """Send nothing and ignore the client from now on, until it gives up."""
        self._is_stalled = True
        self._send_buffer.drop()
        self._scope.deadline = float("inf")

    def hang_up(self, hangup: Hangup) -> None:
        """Send a close frame and nothing after it; the client has 5 s to close."""
        if self._is_stalled:
            return
        self._send_control(CloseConnection(code=hangup.code, reason=hangup.reason))
        self._finish()

    async def serve(self) -> None:
        """Serve until either side closes, or the client is gone, too slow or does not pong."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ping)
                nursery.start_soon(self._age)
                nursery.start_soon(self._read)
                verdict = self.protocol.opening_reply()
                self._act(verdict.answer, verdict.hangup)
                self._subscribed()
                await self._write()
                # The close frame is sent; the client may still answer it.
                await self._reader_ended.wait()
                nursery.cancel_scope.cancel(reason="the connection is closed")

    async def _write(self) -> None:
        try:
            while data := await self._send_buffer.take():
                await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self._scope.cancel(reason="the client is gone")

    async def _ping(self) -> None:
        venue = self.protocol.venue
        await trio.sleep(self.first_ping_s)
        while self._wsproto.state is ConnectionState.OPEN and not self._is_stalled:
            payload = str(self.now_ms()).encode()
            if not self._unanswered:
                self._scope.deadline = trio.current_time() + venue.pong_within_s
            self._unanswered.append(payload)
            self._send_control(Ping(payload=payload))
            await trio.sleep(venue.ping_every_s)

    async def _age(self) -> None:
        await trio.sleep(self.protocol.venue.lifetime_s)
        self.hang_up(Hangup("24 hours have passed", code=1000))

    async def _read(self) -> None:
        try:
            # The client may have sent frames in the packet of its handshake.
            self._handle_events()
            async for data in self._stream:
                if self._is_stalled:
                    continue
                self._wsproto.receive_data(bytes(data))
                self._handle_events()
                if self._wsproto.state is ConnectionState.CLOSED:
                    break
        except trio.BrokenResourceError:
            self._scope.cancel(reason="the client is gone")
        finally:
            self._finish()
            self._reader_ended.set()

    def _handle_events(self) -> None:
        for event in self._wsproto.events():
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if self._wsproto.state is not ConnectionState.OPEN and not isinstance(
            event, CloseConnection
        ):
            # Requests sent before the client saw the close frame are no further breach.
            return
        match event:
            case TextMessage():
                self._receive_text(event)
            case BytesMessage():
                self.hang_up(Hangup("Invalid request"))
            case Ping():
                self._send_control(event.response())
                self._act(None, self.protocol.control_arrived(trio.current_time()))
            case Pong():
                self._receive_pong(bytes(event.payload))
                self._act(None, self.protocol.control_arrived(trio.current_time()))
            case CloseConnection():
                # The client's close frame, or wsproto's own for bytes that are no frames.
                self._send_control(event.response())
                self._finish()

    def _receive_text(self, event: TextMessage) -> None:
        self._request += event.data
        if len(self._request) > _MOST_REQUEST_BYTES:
            self.hang_up(Hangup("Payload too long", code=1009))
        elif event.message_finished:
            request, self._request = self._request, ""
            outcome = self.protocol.answer(request, trio.current_time())
            self._act(outcome.answer, outcome.hangup)
            self._subscribed()

    def _receive_pong(self, payload: bytes) -> None:
        if self._wsproto.state is not ConnectionState.OPEN:
            return
        if self.protocol.venue.any_pong_keeps_alive or payload in self._unanswered:
            self._unanswered.clear()
            self._scope.deadline = float("inf")

    def _act(self, answer: bytes | None, hangup: Hangup | None) -> None:
        if answer is not None:
            self.send(frame_of(answer))
        if hangup is not None:
            self.hang_up(hangup)

    def _finish(self) -> None:
        self._send_buffer.close()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + _CLOSE_WITHIN_S)

    def _send_control(self, event: Event) -> None:
        """Queue a control frame, unless the closing handshake forbids it."""
        closing = isinstance(event, CloseConnection)
        if self._wsproto.state is ConnectionState.OPEN or (
            closing and self._wsproto.state is ConnectionState.REMOTE_CLOSING
        ):
            self.send(self._wsproto.send(event))


# How far a client may fall behind, beyond the kernel's buffers: some 25,000 events, or six seconds
# of a thousand live streams. Then it is disconnected, as the exchange does with slow clients.
_MOST_UNSENT_BYTES = 8 * 1024 * 1024


@define(eq=False)
class SendBuffer:
    """A bounded buffer of bytes to send, filled by many tasks and emptied by one writer."""

    _emptied: Callable[[], None] = lambda: None
    """Called when the writer waits for more; it may put some."""
    _unsent: bytearray = field(init=False, factory=bytearray)
    _is_closed: bool = field(init=False, default=False)
    _changed: trio.Event = field(init=False, factory=trio.Event)

    def put(self, data: bytes) -> bool:
        """Append `data`, or drop it after `close`; False if the buffer is full."""
        if self._is_closed or not data:
            return True
        if len(self._unsent) + len(data) > _MOST_UNSENT_BYTES:
            return False
        self._unsent += data
        self._changed.set()
        return True

    def close(self) -> None:
        """Accept no more data; buffered data is still taken."""
        self._is_closed = True
        self._changed.set()

    def drop(self) -> None:
        """Discard buffered data."""
        self._unsent.clear()

    async def take(self) -> bytes:
        """Wait for data and take all of it; empty bytes once closed and emptied."""
        while not self._unsent and not self._is_closed:
            self._changed = trio.Event()
            self._emptied()
            await self._changed.wait()
        data = bytes(self._unsent)
        self._unsent.clear()
        return data
