"""Sockets to the exchange, and their errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio

from klineagent.core.errors import ExchangeUnreachable
from klineagent.exchange.network import Internet

Handler = Callable[[trio.SocketStream], Awaitable[None]]
WITHIN_S = 5


@asynccontextmanager
async def _server(handler: Handler) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handler, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_bytes_go_both_ways() -> None:
    """A stream without TLS is the socket."""

    async def echo(stream: trio.SocketStream) -> None:
        await stream.send_all(await stream.receive_some())

    async with _server(echo) as port:
        stream = await Internet().open_stream(httpx2.URL(f"ws://127.0.0.1:{port}/stream"))
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()


async def test_a_refused_connection_is_reported_with_its_reason() -> None:
    """The error names the host."""
    async with _server(trio.aclose_forcefully) as port:
        pass
    with pytest.raises(ExchangeUnreachable, match=r"cannot connect to 127\.0\.0\.1: .*refused"):
        await Internet().open_stream(httpx2.URL(f"ws://127.0.0.1:{port}"))


async def test_a_server_without_tls_is_reported_and_its_socket_closed() -> None:
    """The reason is OpenSSL's."""
    let_go = trio.Event()

    async def speak_plainly(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad SubscriptionRequest\r\n\r\n")
        async for _ in stream:
            pass
        let_go.set()

    async with _server(speak_plainly) as port:
        with pytest.raises(ExchangeUnreachable, match=r"no TLS with 127\.0\.0\.1: .*SSL"):
            await Internet().open_stream(httpx2.URL(f"wss://127.0.0.1:{port}"))
        with trio.fail_after(WITHIN_S):
            await let_go.wait()


async def test_a_cancelled_handshake_closes_its_socket() -> None:
    """A server that says nothing sees the end at once."""
    let_go = trio.Event()
    patience = trio.CancelScope()

    async def say_nothing(stream: trio.SocketStream) -> None:
        async for _ in stream:
            patience.cancel(reason="the handshake has begun")
        let_go.set()

    async with _server(say_nothing) as port:
        with patience:
            await Internet().open_stream(httpx2.URL(f"wss://127.0.0.1:{port}"))
        assert patience.cancelled_caught
        with trio.fail_after(WITHIN_S):
            await let_go.wait()
