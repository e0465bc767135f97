"""What tests of the twin share."""

from collections.abc import Awaitable, Callable

import httpx2
import trio
import trio_websocket

from klineagent.sim.network import TwinNetwork

START_MS = 1_769_904_000_000  # 2026-02-01T00:00Z, a Sunday

Dial = Callable[[str], Awaitable[trio_websocket.WebSocketConnection]]


def dialling(network: TwinNetwork, nursery: trio.Nursery) -> Dial:
    """A function that opens a WebSocket to a path, with trio-websocket."""

    async def dial(path: str) -> trio_websocket.WebSocketConnection:
        stream = await network.open_stream(httpx2.URL(f"wss://exchange{path}"))
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # any stream will do, whatever the annotation says
            "exchange",
            path,
        )

    return dial
