"""Clients of stream sockets over memory streams."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio.testing import memory_stream_pair
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from klineagent.core.kline import Kline
from klineagent.exchange.venues import USDM
from klineagent.reading.streams.events import EventFormat
from klineagent.reading.streams.hub import StreamHub, open_streams
from klineagent.reading.streams.path import read_path
from klineagent.reading.streams.socket import StreamSocket
from klineagent.testing.simulation import Simulation


@define(eq=False)
class Listening:
    """A client that has shaken hands."""

    stream: trio.abc.Stream
    _wsproto: Connection = field(factory=lambda: Connection(ConnectionType.CLIENT), init=False)
    _events: deque[Event] = field(factory=deque, init=False)
    _text: str = field(default="", init=False)

    async def ask(self, method: str, *params: object, request_id: object = 1) -> None:
        """Send a request."""
        request = {"method": method, "params": params, "id": request_id}
        await self.send(TextMessage(data=msgspec.json.encode(request).decode()))

    async def send(self, event: Event) -> None:
        """Send any frame."""
        await self.stream.send_all(self._wsproto.send(event))

    async def event(self) -> Event:
        """Wait for the next frame, with text in one piece."""
        while True:
            while self._events:
                event = self._events.popleft()
                if not isinstance(event, TextMessage):
                    return event
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    return TextMessage(data=text)
            data = await self.stream.receive_some()
            assert data, "the socket was cut"
            self._wsproto.receive_data(bytes(data))
            self._events += self._wsproto.events()

    async def text(self) -> str:
        """Wait for the next text; pings before it are answered."""
        while isinstance(event := await self.event(), Ping):
            await self.send(event.response())
        assert isinstance(event, TextMessage), event
        return event.data

    async def message(self) -> Any:
        """Wait for the next text, decoded."""
        return msgspec.json.decode(await self.text())

    async def closed(self) -> tuple[int, str | None]:
        """Wait for the close frame, whatever comes before it; answer it."""
        while not isinstance(event := await self.event(), CloseConnection):
            if isinstance(event, Ping):
                await self.send(event.response())
        await self.send(event.response())
        return event.code, event.reason

    async def ponged(self) -> bool:
        """Send a ping, and wait for its pong."""
        await self.send(Ping(payload=b"here"))
        while not isinstance(event := await self.event(), Pong):
            pass
        return bytes(event.payload) == b"here"


@asynccontextmanager
async def listening(hub: StreamHub, target: str, early: bytes = b"") -> AsyncIterator[Listening]:
    """Dial `target` of `hub`, with some bytes in the packet of the handshake."""
    ours, theirs = memory_stream_pair()

    async def serve(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        socket = StreamSocket(
            stream=theirs,
            wsproto=Connection(ConnectionType.SERVER, trailing_data=early),
            hub=hub,
            path=read_path(target),
        )
        with hub.reserved():
            await socket.serve()
        await theirs.aclose()

    async with ours, trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield Listening(ours)
        nursery.cancel_scope.cancel(reason="the client is gone")


@asynccontextmanager
async def streams_of(simulation: Simulation) -> AsyncIterator[StreamHub]:
    """Open a hub that follows the agent of `simulation`."""
    agent = simulation.agent
    async with open_streams(agent.venues) as hub:
        with agent.bus.followed(hub):
            yield hub


@asynccontextmanager
async def open_hub(newest: Kline | None = None, now_ms: int = 0) -> AsyncIterator[StreamHub]:
    """Open a hub of USD-M, as if every series of it was recorded and no candle missing.

    The stream of each series has brought `newest`.
    """
    gaps = SimpleNamespace(within=lambda *_: [])
    ledger = SimpleNamespace(horizon_ms=0, gaps=gaps, has_closed=lambda _: False)
    subscription = SimpleNamespace(ledger=ledger, newest=newest)
    registry = SimpleNamespace(subscription=lambda *_: subscription)
    book = SimpleNamespace(listings={})
    running = SimpleNamespace(registry=registry, context=SimpleNamespace(book=book))
    venues: Any = SimpleNamespace(
        default=USDM, get={"usdm": running}.get, now_ms=lambda _venue: now_ms
    )
    async with open_streams(venues) as hub:
        yield hub


def publish(hub: StreamHub, *klines: Kline) -> None:
    """Hand on rows and the frames in which the exchange sent them."""
    text = EventFormat.of(None, USDM).text
    frames = [
        b'{"stream":"%b@kline_1m","data":%b}'
        % (kline.symbol.lower().encode(), text(kline, is_continuous=False))
        for kline in klines
    ]
    hub.follow(klines, frames)
