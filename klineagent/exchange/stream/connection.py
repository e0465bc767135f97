"""One websocket: makes its state's requests, reads frames, hands klines on."""

from __future__ import annotations

import h11
import httpx2
import structlog
import trio
from attrs import define, field
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import ProtocolError

from klineagent.core.errors import ExchangeUnreachable
from klineagent.core.kline import Publish
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.network import Network
from klineagent.exchange.stream.dispatcher import Dispatcher, FormingTurns, FrameCounts
from klineagent.exchange.stream.rate_limit import RateLimiter
from klineagent.exchange.stream.stream_set import ConnectionState, SubscriptionRequest
from klineagent.exchange.stream.transport import Transport
from klineagent.exchange.venues import NAMES_PER_REQUEST, Venue
from klineagent.exchange.wire import SubscriptionResponse, subscribe_request, unsubscribe_request

CONNECT_TIMEOUT_S = 15
ANSWER_TIMEOUT_S = 15
# The close frame leaves at once. After a cancellation nothing here reads the peer's answer.
CLOSE_TIMEOUT_S = 0.2
# A connection without streams is kept this long for the next stream: dials are scarce.
IDLE_S = 30
# Messages that trio-websocket may queue. It answers no pings while its queue is full, but this
# connection empties the queue whenever it runs; the messages stand for one or two reads.
MESSAGE_QUEUE = 4
# What trio-websocket raises when the peer breaks the protocol: a refused or odd handshake, a frame
# that crosses our close, bytes that are no frames.
_PROTOCOL_ERRORS = (
    HandshakeError,
    ConnectionClosed,
    ProtocolError,
    h11.ProtocolError,
    UnicodeDecodeError,
)

# trio-websocket's code for a stream that ended without a close frame (RFC 6455, 7.1.5).
_NO_CLOSE_FRAME = 1006

log = structlog.get_logger()


@define(eq=False)
class Meter:
    """Measures how fast a counter grows."""

    per_second: float | None = field(default=None, init=False)
    """The growth between the last two readings; the meter's start is the first reading. None until
    the second."""
    _count: int = field(default=0, init=False)
    _read_at: float = field(factory=trio.current_time, init=False)

    def read(self, count: int) -> None:
        """Note that the counter stands at `count` now."""
        now = trio.current_time()
        if now > self._read_at:
            self.per_second = (count - self._count) / (now - self._read_at)
            self._count, self._read_at = count, now


@define(eq=False, kw_only=True)
class StreamConnection:
    """One connection to `url` (a `/stream` endpoint), from its dial to its end.

    It makes the requests of its `state`, reads frames, and passes klines on.
    """

    network: Network
    venue: Venue
    url: httpx2.URL
    state: ConnectionState
    time: ExchangeTime
    publish: Publish
    counts: FrameCounts
    conflate_s: float
    turns: FormingTurns
    lifetime_s: float
    """The age in seconds at which another connection should take over."""
    dispatcher: Dispatcher = field(init=False)
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Cancelled when the connection is retired because another has taken over."""
    opened_at: float = field(factory=trio.current_time, init=False)
    connected_at: float | None = field(default=None, init=False)
    """When the websocket handshake was done, by Trio's clock; None before."""
    meter: Meter = field(factory=Meter, init=False)
    """Measures the klines that arrive."""
    reason: str | None = field(default=None, init=False)
    """Why the connection ended; None if it was not needed any more."""
    ended: trio.Event = field(factory=trio.Event, init=False)
    _answers: dict[int, trio.MemorySendChannel[SubscriptionResponse]] = field(
        factory=dict, init=False
    )
    _last_request_id: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.dispatcher = Dispatcher(
            venue=self.venue.name,
            state=self.state,
            time=self.time,
            publish=self.publish,
            counts=self.counts,
            settle=self._settle,
            conflate_s=self.conflate_s,
            turns=self.turns,
        )

    @property
    def rate(self) -> float:
        """Klines per second: of the last reading, or since the dial if there is none yet."""
        if self.meter.per_second is not None:
            return self.meter.per_second
        return self.dispatcher.received / max(1.0, trio.current_time() - self.opened_at)

    @property
    def is_open(self) -> bool:
        """Whether the websocket is connected."""
        return self.connected_at is not None and not self.ended.is_set()

    async def run(self) -> None:
        """Carry the streams of `state` until the connection ends or is retired.

        Errors of the exchange are not raised but stored in `reason`; the caller decides whether and
        when to dial again.
        """
        try:
            with self.scope:
                self.reason = await self._run()
        finally:
            self.ended.set()
            self.dispatcher.delivered.set()
            self.state.close()

    async def _run(self) -> str | None:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await self.network.open_stream(self.url)
        except trio.TooSlowError:
            return f"no connection to {self.url.host} within {CONNECT_TIMEOUT_S} s"
        except ExchangeUnreachable as error:
            return str(error)
        try:
            return await self._carry(Transport(stream))
        finally:
            await trio.aclose_forcefully(stream)

    async def _carry(self, stream: Transport) -> str | None:
        reason: str | None = None
        try:
            async with trio.open_nursery() as nursery:
                if (socket := await self._shake_hands(stream, nursery)) is None:
                    reason = f"no websocket at {self.url.host} within {CONNECT_TIMEOUT_S} s"
                    if stream.ended.is_set():
                        reason = f"{self.url.host} hung up during the handshake"
                else:
                    self.connected_at = trio.current_time()
                    log.info("feed_opened", host=self.url.host, streams=self.state.wanted)
                    reason = await self._converse(socket, stream)
                nursery.cancel_scope.cancel()
        except* _PROTOCOL_ERRORS as errors:
            # These errors arise in trio-websocket's own task, hence the group.
            reason = reason or self._protocol_error(errors)
        return reason

    def _protocol_error(self, errors: BaseExceptionGroup[Exception]) -> str:
        error = errors.exceptions[0]
        if isinstance(error, ConnectionRejected):
            return f"{self.url.host} refuses a websocket: HTTP {error.status_code}"
        return f"{self.url.host} broke the protocol: {error!r}"

    async def _shake_hands(
        self, stream: Transport, nursery: trio.Nursery
    ) -> WebSocketConnection | None:
        """Make `stream` a websocket served in `nursery`; None if the exchange does not answer."""
        with trio.move_on_after(CONNECT_TIMEOUT_S) as patience:

            async def watch() -> None:
                # trio-websocket waits for an answer even after the end of the stream.
                await stream.ended.wait()
                patience.cancel(reason="the stream ended")

            nursery.start_soon(watch)
            return await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # its documentation allows any stream
                self.url.netloc.decode(),
                self.url.raw_path.decode(),
                message_queue_size=MESSAGE_QUEUE,
            )
        return None

    async def _converse(self, socket: WebSocketConnection, stream: Transport) -> str | None:
        """Read and make requests concurrently; the first to end ends both and gives the reason."""
        reason: str | None = None

        async def read() -> None:
            nonlocal reason
            reason = await self._read(socket, stream)
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                if self.conflate_s:
                    nursery.start_soon(self.dispatcher.hand_on_forming)
                reason = await self._make_requests(socket)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await socket.aclose()
        return reason

    async def _read(self, socket: WebSocketConnection, stream: Transport) -> str:
        """Dispatch messages until the exchange closes the connection."""
        while True:
            try:
                message = await socket.get_message()
            except ConnectionClosed as closed:
                return _close_reason(closed)
            await self.dispatcher.take(stream.redeem(message))

    def _settle(self, answer: SubscriptionResponse) -> None:
        # Request ids start at 1; a response without an id answers none of our requests.
        waiting = self._answers.pop(answer.request_id or 0, None)
        if waiting is None:
            log.warning("unexpected_answer", request_id=answer.request_id, error=answer.error)
        else:
            waiting.send_nowait(answer)

    async def _make_requests(self, socket: WebSocketConnection) -> str | None:
        """Make the requests of `state` one by one, until the connection is idle or unusable."""
        limiter = RateLimiter(1, 1 / self.venue.requests_per_second)
        while True:
            if (request := self.state.next_request(NAMES_PER_REQUEST)) is None:
                with trio.move_on_after(IDLE_S) as waiting:
                    await self.state.work.wait()
                if waiting.cancelled_caught and not self.state.wanted:
                    return None
                continue
            await limiter.turn()
            try:
                with trio.fail_after(ANSWER_TIMEOUT_S):
                    answer = await self._ask(socket, request)
            except trio.TooSlowError:
                return f"no answer within {ANSWER_TIMEOUT_S} s"
            except ConnectionClosed as closed:
                return _close_reason(closed)
            if answer.error is not None:
                return f"request refused: {answer.error}"
            self.state.confirm(request)

    async def _ask(
        self, socket: WebSocketConnection, request: SubscriptionRequest
    ) -> SubscriptionResponse:
        self._last_request_id += 1
        request_id = self._last_request_id
        to_text = subscribe_request if request.subscribe else unsubscribe_request
        # Room for the one answer there can be, so that the reader never waits for this task.
        give, take = trio.open_memory_channel[SubscriptionResponse](1)
        # The entry stays if the wait times out: the connection ends, and a late answer is fine.
        self._answers[request_id] = give
        await socket.send_message(to_text(list(request.names), request_id))
        return await take.receive()


def _close_reason(closed: ConnectionClosed) -> str:
    close = closed.reason
    if close is None or close.code == _NO_CLOSE_FRAME:
        return "the connection broke"
    text = f"closed by the exchange: {close.code} {close.name}"
    return f"{text}, {close.reason}" if close.reason else text
