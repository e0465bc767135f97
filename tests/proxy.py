"""A TCP proxy that misbehaves as networks do: between a client under test and its server."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trio
from attrs import define, field

_LOOPBACK = "127.0.0.1"
# Reset instead of an orderly end, and nothing of what is unsent.
_LINGER_NOT = struct.pack("ii", 1, 0)
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@define(eq=False)
class _Line:
    """A client's connection, and the server's end of it."""

    client: trio.SocketStream
    server: trio.SocketStream
    is_deaf: bool = field(default=False, init=False)
    """The client does not hear the server."""

    async def reset(self) -> None:
        for end in (self.client, self.server):
            with suppress(*_BROKEN, OSError):  # it may be gone already
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            await trio.aclose_forcefully(end)


@define(eq=False)
class _AckLoss:
    """What is swallowed of the server's answers."""

    after: bytes
    ack: bytes
    times: int
    over: trio.Event = field(factory=trio.Event, init=False)


@define(eq=False)
class _Hold:
    """Where what the client sends is held up."""

    within: bytes
    reached: trio.Event = field(factory=trio.Event, init=False)
    released: trio.Event = field(factory=trio.Event, init=False)


@define(eq=False)
class Proxy:
    """Passes bytes both ways; what goes wrong lasts as long as the block that says so."""

    upstream_port: int
    port: int = field(default=0, init=False)
    connections: int = field(default=0, init=False)
    """How many have been made so far."""
    _lines: set[_Line] = field(factory=set, init=False)
    _listening: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _allowed: trio.Event = field(factory=trio.Event, init=False)
    _ack_loss: _AckLoss | None = field(default=None, init=False)
    _hold: _Hold | None = field(default=None, init=False)
    _hole: trio.Event | None = field(default=None, init=False)
    _unheard: trio.Event = field(factory=trio.Event, init=False)

    @property
    def held(self) -> int:
        """How many connections there are."""
        return len(self._lines)

    @contextmanager
    def lost_acks(self, *, after: bytes, ack: bytes, times: int) -> Iterator[trio.Event]:
        """The server gets everything, but what it answers to `after` never arrives.

        With the answer that ends with `ack` the line is reset. When that has happened `times`
        times the event is set, and it does not happen any more.
        """
        self._ack_loss = loss = _AckLoss(after, ack, times)
        try:
            yield loss.over
        finally:
            self._ack_loss = None

    @contextmanager
    def holding(self, *, within: bytes) -> Iterator[trio.Event]:
        """Of what the client sends first, all up to the middle of `within` arrives, and no more.

        Then the event is set. What was held goes on its way when the block ends, if its line is
        still there; other lines are sound.
        """
        self._hold = hold = _Hold(within)
        try:
            yield hold.reached
        finally:
            hold.released.set()
            self._hold = None

    @contextmanager
    def black_hole(self) -> Iterator[trio.Event]:
        """Nothing passes either way, and nobody is told; new connections are made all the same.

        The event is set when the client has said something nobody heard.
        """
        self._hole, self._unheard = trio.Event(), trio.Event()
        try:
            yield self._unheard
        finally:
            self._hole.set()
            self._hole = None

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Every line is reset, and new ones are refused."""
        self._allowed = trio.Event()
        self._listening.cancel(reason="connections are refused")
        await self.reset()
        try:
            yield
        finally:
            self._allowed.set()

    async def reset(self) -> None:
        """Reset every line there is, whatever is on its way; new ones are sound."""
        for line in list(self._lines):
            await line.reset()

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve clients until cancelled; in between as long as connections are not refused."""
        self._allowed.set()
        async with trio.open_nursery() as nursery:
            while True:
                await self._allowed.wait()
                listeners = await trio.open_tcp_listeners(self.port, host=_LOOPBACK)
                if not self.port:
                    self.port = listeners[0].socket.getsockname()[1]
                    task_status.started()
                with trio.CancelScope() as self._listening:
                    await trio.serve_listeners(self._carry, listeners, handler_nursery=nursery)

    async def _carry(self, client: trio.SocketStream) -> None:
        self.connections += 1
        async with client:
            try:
                server = await trio.open_tcp_stream(_LOOPBACK, self.upstream_port)
            except OSError:
                return  # nobody is there: the client sees it end
            line = _Line(client, server)
            self._lines.add(line)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, line, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pass, line, server, client, nursery.cancel_scope)
            self._lines.remove(line)

    async def _pass(
        self,
        line: _Line,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        ended: trio.CancelScope,
    ) -> None:
        with suppress(*_BROKEN):  # what a line that was cut does
            async for data in source:
                if self._hole is not None:
                    if source is line.client:
                        self._unheard.set()
                    await self._hole.wait()
                if source is line.client:
                    await self._tell_server(line, bytes(data))
                elif not await self._is_lost(line, bytes(data)):
                    await sink.send_all(data)
        ended.cancel(reason="one side has ended")

    async def _tell_server(self, line: _Line, data: bytes) -> None:
        if self._ack_loss is not None and self._ack_loss.after in data:
            line.is_deaf = True
        hold, middle = self._hold, 0
        if hold is not None and hold.within in data:
            self._hold = None
            middle = data.rindex(hold.within) + len(hold.within) // 2
            await line.server.send_all(data[:middle])
            hold.reached.set()
            await hold.released.wait()
        await line.server.send_all(data[middle:])

    async def _is_lost(self, line: _Line, data: bytes) -> bool:
        loss = self._ack_loss
        if loss is None or not line.is_deaf or loss.over.is_set():
            return False
        if data.endswith(loss.ack):
            loss.times -= 1
            if not loss.times:
                loss.over.set()
            await line.reset()
        return True


@asynccontextmanager
async def open_proxy(upstream_port: int) -> AsyncIterator[Proxy]:
    """A proxy on a port of its own, before what listens on `upstream_port`."""
    proxy = Proxy(upstream_port)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel(reason="nobody needs it any more")
