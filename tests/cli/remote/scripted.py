"""Servers with scripted answers, for what agents never do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def answering(status: str, body: bytes) -> AsyncIterator[str]:
    """The URL of a server that answers everything by the same."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    async with saying(head.encode() + body) as url:
        yield url


@asynccontextmanager
async def saying(words: bytes, heard: list[bytes] | None = None) -> AsyncIterator[str]:
    """The URL of a server that says `words` once it has heard anything; none, and it is silent.

    What each client said first is added to `heard`.
    """

    async def answer(stream: trio.SocketStream) -> None:
        first = await stream.receive_some()
        if heard is not None:
            heard.append(bytes(first))
        if words:
            await stream.send_all(words)
        else:
            await trio.sleep_forever()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host=LOOPBACK))
        yield f"http://{LOOPBACK}:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel(reason="the test is over")
