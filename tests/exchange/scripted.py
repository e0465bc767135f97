"""An exchange that follows a script, over memory streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import trio
from attrs import define, field
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from klineagent.core.kline import Kline
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.stream.pool import Pool, open_pool
from klineagent.exchange.venues import USDM
from tests.klines import published_to

Script = Callable[[WebSocketConnection], Awaitable[None]]
NAME = "btcusdt@kline_1m"


def kline_frame(minute: int = 0, *, is_closed: bool = True) -> str:
    """Write a frame of stream `btcusdt@kline_1m`."""
    opened = 1_769_904_000_000 + minute * 60_000
    candle = {"t": opened, "T": opened + 59_999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 2}
    candle |= dict.fromkeys("ochlvqVQ", "1.5") | {"n": 2, "x": is_closed, "B": "0"}
    event = {"e": "kline", "E": opened + 60_010, "s": "BTCUSDT", "k": candle}
    return json.dumps({"stream": NAME, "data": event})


async def answer(socket: WebSocketConnection) -> dict[str, Any]:
    """Acknowledge the next request and return it."""
    request: dict[str, Any] = json.loads(await socket.get_message())
    await socket.send_message(json.dumps({"result": None, "id": request["id"]}))
    return request


@define
class ScriptedNetwork:
    """Serves one script per connection, the last one again and again."""

    scripts: list[Script]
    nursery: trio.Nursery
    dials: int = 0
    raw: list[Callable[[trio.abc.Stream], Awaitable[None]]] = field(factory=list)
    """Functions that serve the first connections instead of a websocket server."""

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        """See `Network`."""
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_stream_pair()
        if self.raw:
            self.nursery.start_soon(self.raw.pop(0), theirs)
            return ours
        script = self.scripts[min(self.dials, len(self.scripts) - 1)]
        self.dials += 1
        self.nursery.start_soon(self._serve, theirs, script)
        return ours

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        """See `Network`; there is no REST in these scripts."""
        raise AssertionError("there is no REST here")

    async def _serve(self, stream: trio.abc.Stream, script: Script) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            socket = await request.accept()
            try:
                await script(socket)
            except ConnectionClosed:
                pass
            else:
                await socket.aclose()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def scripted_pool(
    *scripts: Script,
) -> AsyncIterator[tuple[Pool, ScriptedNetwork, trio.MemoryReceiveChannel[list[Kline]]]]:
    """Open a pool whose exchange follows `scripts`, and the channel of its klines."""
    send, receive = trio.open_memory_channel[list[Kline]](1000)
    async with trio.open_nursery() as nursery:
        network = ScriptedNetwork(list(scripts), nursery)
        async with open_pool(
            network=network,
            venue=USDM,
            ws_url="wss://exchange.test/market",
            time=ExchangeTime(),
            publish=published_to(send),
            conflate_s=0,
        ) as pool:
            yield pool, network, receive
        nursery.cancel_scope.cancel()
