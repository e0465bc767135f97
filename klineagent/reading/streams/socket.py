"""The I/O of one client's stream socket: frames, pings, deadlines."""

from __future__ import annotations

import os

import structlog
import trio
from attrs import define, field
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from klineagent.reading.streams.events import framed_text
from klineagent.reading.streams.hub import StreamHub
from klineagent.reading.streams.listeners import StreamListener
from klineagent.reading.streams.outbox import Outbox
from klineagent.reading.streams.path import SocketPath
from klineagent.reading.streams.requests import Allowance, Answered, CloseReason, Conversation

# As often as the exchange; it waits 10 minutes for an answer.
PING_EVERY_S = 180.0
CLOSE_WITHIN_S = 5.0
# Long enough for a few lost packets. Meanwhile newer states replace older ones.
TAKEN_WITHIN_S = 3.0
PIECE_BYTES = 64 * 1024
# A request for 1,024 streams with the longest names there are takes half of it.
MOST_REQUEST_BYTES = 128 * 1024
READ_BYTES = 4_096
# A frame takes 11 us and a stream 60 us; others are served in between.
FRAMES_AT_ONCE = 100
STREAMS_AT_ONCE = 100
TOO_SLOW = CloseReason("slow consumer")
TOO_LONG = CloseReason("Payload too long", 1009)

log = structlog.get_logger()


@define(kw_only=True, eq=False)
class StreamSocket:
    """One client that listens to streams."""

    _stream: trio.abc.Stream
    _wsproto: Connection
    _hub: StreamHub
    _path: SocketPath
    _outbox: Outbox = field(init=False)
    _conversation: Conversation = field(init=False)
    _listeners: dict[str, StreamListener] = field(factory=dict, init=False)
    # Its deadline is that of the closing handshake.
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _reader_ended: trio.Event = field(factory=trio.Event, init=False)
    _awaits_pong: bool = field(default=False, init=False)
    _request: list[str] = field(factory=list, init=False)
    """What has come of a request, in pieces."""
    _request_chars: int = field(default=0, init=False)
    _added: list[str] = field(factory=list, init=False)
    """Streams that were acknowledged, and have no listener yet."""

    def __attrs_post_init__(self) -> None:
        self._outbox = Outbox(
            soon=self._hub.soon.put,
            later=self._hub.later.put,
            send_now=self._send_now,
            too_slow=self._cut,
        )
        self._conversation = Conversation(
            is_combined=self._path.is_combined,
            added=self._added.append,
            removed=self._leave,
            reshaped=self._reshape,
            allowance=Allowance(trio.current_time()),
        )

    def hang_up(self, close_reason: CloseReason) -> None:
        """Send a close frame and nothing after it; the client has some seconds to close."""
        self._outbox.drop_events()
        self._send_control(CloseConnection(code=close_reason.code, reason=close_reason.text))
        self._finish()

    async def serve(self) -> None:
        """Serve until either side closes, or the client is gone, too slow or does not pong."""
        with self._hub.serving(self):
            try:
                with self._scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._ping)
                        nursery.start_soon(self._read)
                        await self._write()
                        # The close frame is sent; the client may still answer it.
                        await self._reader_ended.wait()
                        nursery.cancel_scope.cancel(reason="the socket is closed")
            finally:
                for listener in self._listeners.values():
                    self._hub.leave(listener)

    async def _write(self) -> None:
        try:
            while frames := await self._outbox.take():
                for start in range(0, len(frames), PIECE_BYTES):
                    with trio.move_on_after(TAKEN_WITHIN_S) as patience:
                        await self._stream.send_all(frames[start : start + PIECE_BYTES])
                    if patience.cancelled_caught:
                        # A close frame would not arrive either, and half a frame may be sent.
                        self._tell_cut()
                        self._scope.cancel(reason=TOO_SLOW.text)
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel(reason="the client is gone")

    def _send_now(self, frames: bytes) -> bytes:
        # A task that sends costs five times as much as the system call.
        if not isinstance(self._stream, trio.SocketStream):
            return frames
        try:
            sent = os.write(self._stream.socket.fileno(), frames)
        except OSError:
            return frames  # it takes nothing, or is broken: who sends the rest will see
        return frames[sent:]

    async def _ping(self) -> None:
        while True:
            await trio.sleep(PING_EVERY_S)
            if self._awaits_pong:
                self.hang_up(CloseReason("no pong"))
                return
            self._awaits_pong = True
            self._send_control(Ping())

    async def _read(self) -> None:
        try:
            await self._act(self._conversation.begin(self._path.names))
            # The client may have sent frames in the packet of its handshake, even the last.
            await self._handle_events()
            while self._wsproto.state is not ConnectionState.CLOSED:
                if not (data := await self._stream.receive_some(READ_BYTES)):
                    break
                self._wsproto.receive_data(bytes(data))
                await self._handle_events()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel(reason="the client is gone")
        finally:
            self._finish()
            self._reader_ended.set()

    async def _handle_events(self) -> None:
        for number, event in enumerate(self._wsproto.events(), start=1):
            is_open = self._wsproto.state is ConnectionState.OPEN
            # Requests that were sent before the client saw our close frame are void.
            if is_open or isinstance(event, CloseConnection):
                await self._handle(event)
            if number % FRAMES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    async def _handle(self, event: Event) -> None:
        match event:
            case TextMessage():
                await self._receive(event)
            case BytesMessage():
                self.hang_up(CloseReason("Invalid request"))
            case Ping():
                self._send_control(event.response())
                self._count()
            case Pong():
                self._awaits_pong = False
                self._count()
            case CloseConnection():
                # The client's close frame, or wsproto's own for bytes that are no frames.
                self._outbox.drop_events()
                self._send_control(event.response())
                self._finish()

    def _count(self) -> None:
        if (close_reason := self._conversation.is_too_much(trio.current_time())) is not None:
            self.hang_up(close_reason)

    async def _receive(self, event: TextMessage) -> None:
        self._request.append(event.data)
        self._request_chars += len(event.data)
        if self._request_chars > MOST_REQUEST_BYTES:
            self.hang_up(TOO_LONG)
        elif event.message_finished:
            request = "".join(self._request)
            self._request, self._request_chars = [], 0
            await self._act(self._conversation.answer(request, trio.current_time()))
        elif event.frame_finished:
            self._count()

    async def _act(self, answered: Answered) -> None:
        if answered.text is not None:
            self._outbox.answer(framed_text(answered.text))
        if answered.close_reason is not None:
            self.hang_up(answered.close_reason)
        # Not before the next request, which may end what this one began.
        for number, name in enumerate(self._added, start=1):
            self._listen(name)
            if number % STREAMS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        self._added.clear()

    def _listen(self, name: str) -> None:
        is_combined, venues = self._conversation.is_combined, self._path.venues
        listener = self._hub.listen(self._outbox, name, venues, is_combined=is_combined)
        if listener is not None:
            self._listeners[name] = listener

    def _leave(self, name: str) -> None:
        if (listener := self._listeners.pop(name, None)) is not None:
            self._hub.leave(listener)

    def _reshape(self) -> None:
        for listener in self._listeners.values():
            self._hub.reshape(listener, is_combined=self._conversation.is_combined)

    def _cut(self) -> None:
        if self._wsproto.state is ConnectionState.OPEN:
            self._tell_cut()
            self.hang_up(TOO_SLOW)

    def _tell_cut(self) -> None:
        self._hub.counts.cut += 1
        log.warning("stream_client_cut", reason=TOO_SLOW.text, streams=len(self._listeners))

    def _send_control(self, event: Event) -> None:
        """Queue a control frame, unless the closing handshake forbids it."""
        is_closing = isinstance(event, CloseConnection)
        if self._wsproto.state is ConnectionState.OPEN or (
            is_closing and self._wsproto.state is ConnectionState.REMOTE_CLOSING
        ):
            self._outbox.answer(self._wsproto.send(event))

    def _finish(self) -> None:
        self._outbox.close()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + CLOSE_WITHIN_S)
