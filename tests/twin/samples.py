"""Helpers for tests of the twin."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import trio
import trio_websocket
from attrs import define

from klineagent.core.interval import MINUTE_MS
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork

START_MS = 1_769_904_000_000  # 2026-02-01T00:00Z, a Sunday

Dial = Callable[[str], Awaitable[trio_websocket.WebSocketConnection]]


@define(kw_only=True)
class Ended(RandomMarket):
    """A market that ends after some minutes."""

    minutes: int

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.end_ms = self.start_ms + self.minutes * MINUTE_MS  # type: ignore[assignment]  # a fixed None there

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """Nothing from the end on."""
        if open_ms >= self.start_ms + self.minutes * MINUTE_MS:
            return None
        return super().minute(symbol, open_ms)


def dialling(network: TwinNetwork, nursery: trio.Nursery) -> Dial:
    """A function that opens a websocket to a path, with trio-websocket."""

    async def dial(path: str) -> trio_websocket.WebSocketConnection:
        stream = await network.open_stream(httpx2.URL(f"wss://exchange{path}"))
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # any stream will do, whatever the annotation says
            "exchange",
            path,
        )

    return dial


async def texts_until(socket: trio_websocket.WebSocketConnection, seconds: float) -> list[str]:
    """The texts a websocket receives within so many seconds."""
    texts = []
    with trio.move_on_after(seconds):
        while True:
            text = await socket.get_message()
            assert isinstance(text, str)
            texts.append(text)
    return texts


async def events_until(
    socket: trio_websocket.WebSocketConnection, seconds: float
) -> list[dict[str, Any]]:
    """The kline events of a combined socket within so many seconds."""
    messages = [json.loads(text) for text in await texts_until(socket, seconds)]
    return [message["data"] for message in messages if "data" in message]
