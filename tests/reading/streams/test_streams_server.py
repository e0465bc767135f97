"""Stream sockets of a running agent's read server, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx2
import msgspec
import pytest
import trio
import trio_websocket
from trio.testing import open_stream_to_socket_listener
from wsproto.connection import Connection, ConnectionType

from klineagent.agent import Agent, open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import Interval
from klineagent.reading.streams.path import read_path
from klineagent.reading.streams.socket import StreamSocket
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation
from klineagent.twin.exchange import open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.server import serve_exchange
from klineagent.twin.venues import USDM
from tests.klines import a_kline
from tests.reading.streams.listening import Listening, open_hub, publish

pytestmark = pytest.mark.slow

LOOPBACK = Bind("127.0.0.1", 0)
WITHIN_S = 30


@pytest.fixture
async def agent(nursery: trio.Nursery) -> AsyncIterator[Agent]:
    """An agent that records BTCUSDT 1m from a twin."""
    market = RandomMarket(symbols=2, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    async with open_exchange(market, USDM, speed=30) as exchange:
        host, port = await nursery.start(serve_exchange, exchange, "127.0.0.1", 0)
        config = Config(
            symbols=["BTCUSDT"],
            intervals=[Interval.M1],
            store="memory:",
            ws_url=f"ws://{host}:{port}/market",
            rest_url=f"http://{host}:{port}",
            command_bind=LOOPBACK,
            status_bind=LOOPBACK,
            read_bind=LOOPBACK,
        )
        with trio.fail_after(WITHIN_S):
            async with open_agent(config, store=MemoryStore()) as agent:
                yield agent


async def _message(opened: trio_websocket.WebSocketConnection) -> Any:
    return msgspec.json.decode(await opened.get_message())


async def test_a_client_is_acknowledged_and_hears_candles_close(agent: Agent) -> None:
    """The ack comes first, the present candle at once after it; REST works beside."""
    url = f"ws://{agent.read_bind}/market/stream"
    async with trio_websocket.open_websocket_url(url) as opened:
        names = ["btcusdt@kline_1m", "btcusdt_perpetual@continuousKline_1m"]
        request = {"method": "SUBSCRIBE", "params": names, "id": "a-1"}
        await opened.send_message(msgspec.json.encode(request).decode())
        assert await _message(opened) == {"result": None, "id": "a-1"}
        closed: set[str] = set()
        while len(closed) < 2:
            event = await _message(opened)
            if event["data"]["k"]["x"]:
                closed.add(event["stream"])
        assert closed == {*names}
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"http://{agent.read_bind}/fapi/v1/ping")).json() == {}


async def test_websockets_are_refused_with_a_reason(agent: Agent) -> None:
    """By status: no such path, a foreign web page, another server of the agent."""
    assert agent.read_bind is not None
    for bind, target, headers, status in (
        (agent.read_bind, "/ws", "", 101),
        (agent.read_bind, "/nowhere", "", 404),
        (agent.read_bind, "/ws", "Origin: https://evil.test\r\n", 403),
        (agent.read_bind, "/ws?timeUnit=MICROSECOND", "", 400),
        (agent.command_bind, "/ws", "", 404),
        (agent.status_bind, "/ws", "", 404),
    ):
        assert await _dial(bind, target, headers) == status


async def test_a_handshake_that_is_none_is_refused(agent: Agent) -> None:
    """Without a key there is no websocket."""
    assert agent.read_bind is not None
    assert await _dial(agent.read_bind, "/ws", "", key="") == 400


KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


async def _dial(bind: Bind, target: str, headers: str, key: str = KEY) -> int:
    """Ask for a websocket; return the status of the answer."""
    async with await trio.open_tcp_stream(*bind) as stream:
        return await _shake_hands(stream, bind, target, headers, key)


async def _shake_hands(
    stream: trio.SocketStream, bind: Bind, target: str, headers: str = "", key: str = KEY
) -> int:
    await stream.send_all(
        f"GET {target} HTTP/1.1\r\nHost: {bind}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}{headers}\r\n".encode()
    )
    return int((await stream.receive_some()).split()[1])


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ("", "", 401),
        ("Authorization: Bearer wrong\r\n", "", 401),
        ("", "?token=wrong", 401),
        ("Authorization: Bearer reading-token-0001\r\n", "", 101),
        ("", "?token=reading-token-0001", 101),
        ("", "?streams=a&token=reading-token-0001", 101),
        ("", "?token=commanding-token-01", 101),
        # With a token, a page may be anywhere: it must have been given the token.
        ("Origin: https://mine.test\r\n", "?token=reading-token-0001", 101),
    ],
)
async def test_a_token_opens_sockets(headers: str, query: str, status: int) -> None:
    """In a header or, for browsers, in the query; that of commands, too."""
    async with open_simulation(
        symbols=[], read_bind=LOOPBACK, read_token="reading-token-0001", token="commanding-token-01"
    ) as simulation:
        bind = simulation.agent.read_bind
        assert bind is not None
        assert await _dial(bind, f"/stream{query}", headers) == status


async def test_a_stopping_agent_closes_its_sockets() -> None:
    """With the code for it, before its servers are gone."""
    listens, reasons = trio.Event(), []

    async def listen(bind: Bind) -> None:
        async with await trio.open_tcp_stream(*bind) as stream:
            assert await _shake_hands(stream, bind, "/ws") == 101
            listens.set()
            reasons.append(await Listening(stream).closed())

    with trio.fail_after(WITHIN_S):
        async with (
            trio.open_nursery() as nursery,
            open_simulation(symbols=[], read_bind=LOOPBACK) as simulation,
        ):
            bind = simulation.agent.read_bind
            assert bind is not None
            nursery.start_soon(listen, bind)
            await listens.wait()
    assert reasons == [(1001, "the agent is shutting down")]


async def test_what_a_socket_does_not_take_at_once_follows_in_order() -> None:
    """A burst is more than its buffers hold."""

    async def serve(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wsproto = Connection(ConnectionType.SERVER)
        path = read_path("/usdm/ws/btcusdt@kline_1m")
        await StreamSocket(stream=stream, wsproto=wsproto, hub=hub, path=path).serve()

    with trio.fail_after(WITHIN_S):
        async with open_hub() as hub, trio.open_nursery() as nursery:
            serve_all = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            [listener] = await nursery.start(serve_all)
            async with await open_stream_to_socket_listener(listener) as stream:
                client = Listening(stream)
                await client.ponged()
                rows = [a_kline(minute) for minute in range(3_000)]
                publish(hub, *rows)
                for row in rows:
                    assert (await client.message())["k"]["t"] == row.open_time
            nursery.cancel_scope.cancel()
