from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio
import trio_websocket
import trustme
from wsproto.frame_protocol import FrameProtocol

from klineagent.twin.exchange import Exchange
from klineagent.twin.server import serve_exchange
from klineagent.twin.socket.tls import open_tls

Address = tuple[str, int]
HANDSHAKE = (
    b"GET /market/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
async def address(twin: Exchange, nursery: trio.Nursery) -> Address:
    """The address of the twin on a real port."""
    bound = await nursery.start(serve_exchange, twin, "127.0.0.1", 0)
    assert isinstance(bound, tuple)
    return bound


@pytest.fixture
async def client(address: Address) -> AsyncIterator[httpx2.AsyncClient]:
    """A REST client over real sockets."""
    host, port = address
    async with httpx2.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as rest:
        yield rest


async def test_one_port_serves_both(client: httpx2.AsyncClient, address: Address) -> None:
    """REST with keep-alive, and a websocket at the same address."""
    assert (await client.get("/fapi/v1/ping")).json() == {}
    info = await client.get("/fapi/v1/exchangeInfo")
    assert "币安人生USDT" in info.text
    assert info.headers["content-type"] == "application/json;charset=UTF-8"
    assert info.headers["x-mbx-used-weight-1m"] == "2"
    host, port = address
    async with trio_websocket.open_websocket_url(
        f"ws://{host}:{port}/market/stream?streams=btcusdt@kline_1m"
    ) as stream:
        assert json.loads(await stream.get_message())["stream"] == "btcusdt@kline_1m"


async def test_percent_encoded_symbols_are_understood(client: httpx2.AsyncClient) -> None:
    """A Chinese symbol in a query is decoded."""
    query = {"symbol": "币安人生USDT", "interval": "1m", "limit": "2"}
    assert len((await client.get("/fapi/v1/klines", params=query)).json()) == 2


@pytest.fixture
async def secure(
    twin: Exchange, nursery: trio.Nursery, tmp_path: Path
) -> tuple[Address, ssl.SSLContext]:
    """The address of a twin with TLS, and the context of a client that trusts it."""
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    authority.configure_trust(context)
    serve = partial(serve_exchange, twin, "127.0.0.1", 0, tls=open_tls(tmp_path / "pem"))
    return await nursery.start(serve), context


async def test_both_come_over_tls(secure: tuple[Address, ssl.SSLContext]) -> None:
    """Third-party clients accept it."""
    (host, port), context = secure
    async with httpx2.AsyncClient(verify=context, trust_env=False) as rest:
        info = await rest.get(f"https://{host}:{port}/fapi/v1/exchangeInfo")
        assert "币安人生USDT" in info.text
        assert (await rest.get(f"https://{host}:{port}/fapi/v1/ping")).json() == {}
    async with trio_websocket.open_websocket_url(
        f"wss://{host}:{port}/market/stream?streams=btcusdt@kline_1m", ssl_context=context
    ) as stream:
        assert json.loads(await stream.get_message())["stream"] == "btcusdt@kline_1m"


async def test_tls_is_reset_like_any_connection(
    twin: Exchange, secure: tuple[Address, ssl.SSLContext]
) -> None:
    """The TCP connection is reset: this client would accept a mere end of stream."""
    (host, port), context = secure
    tcp = await trio.open_tcp_stream(host, port)
    async with trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True) as stream:
        await stream.send_all(HANDSHAKE)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        await trio.testing.wait_all_tasks_blocked(0.01)
        twin.faults.reset_connections()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_unknown_paths_are_404_for_both(client: httpx2.AsyncClient) -> None:
    """A handshake at a path without sockets is refused, too."""
    assert (await client.get("/api/v3/klines")).status_code == 404
    assert (await client.post("/fapi/v1/order", content=b"side=BUY")).status_code == 404
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert (await client.get("/fapi/v1/ws", headers=upgrade)).status_code == 404


@pytest.mark.parametrize(
    "head",
    [
        b"HELLO\r\n\r\n",
        b"GET /market/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_a_bad_request_is_400(address: Address, head: bytes) -> None:
    """Invalid HTTP and invalid handshakes are answered with 400, and the connection is closed."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(head)
        answer = b""
        async for data in stream:
            answer += data
    assert answer.startswith(b"HTTP/1.1 400")


async def test_a_request_in_the_handshakes_packet_is_answered(address: Address) -> None:
    """Bytes right after the head are frames."""
    framer = FrameProtocol(client=True, extensions=[])
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(
            HANDSHAKE + framer.send_data('{"method":"LIST_SUBSCRIPTIONS","id":8}')
        )
        answer = b""
        async for data in stream:
            answer += data
            if answer.endswith(b'{"result":[],"id":8}'):
                break
    assert answer.startswith(b"HTTP/1.1 101")


async def test_an_outage_resets_connections_and_refuses_new_ones(
    twin: Exchange, address: Address, client: httpx2.AsyncClient
) -> None:
    """There is no close frame, the port is closed, and afterwards the same port is open again."""
    host, port = address
    raw = await trio.open_tcp_stream(host, port)
    await client.get("/fapi/v1/ping")
    async with raw:
        await trio.testing.wait_all_tasks_blocked(0.01)
        with twin.offline():
            with pytest.raises(trio.BrokenResourceError):
                await raw.receive_some()
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream(host, port)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert (await client.get("/fapi/v1/ping")).json() == {}


async def test_a_taken_port_is_an_error_at_once(twin: Exchange, nursery: trio.Nursery) -> None:
    """The caller of `start` gets the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await nursery.start(serve_exchange, twin, "127.0.0.1", taken.getsockname()[1])


async def test_a_reset_is_a_tcp_reset(
    twin: Exchange, address: Address, nursery: trio.Nursery
) -> None:
    """Without a close frame the client's next read fails."""
    raw = await trio.open_tcp_stream(*address)
    async with raw:
        await raw.send_all(HANDSHAKE)
        assert (await raw.receive_some()).startswith(b"HTTP/1.1 101")
        await trio.testing.wait_all_tasks_blocked(0.01)
        twin.faults.reset_connections()
        with pytest.raises(trio.BrokenResourceError):
            await raw.receive_some()
    assert twin.faults.injected == {"reset_connections": 1}


async def test_fragments_and_doubles_on_real_sockets(twin: Exchange, address: Address) -> None:
    """A third-party client reassembles them."""
    host, port = address
    with twin.faults.fragmenting(), twin.faults.doubling_closings():
        async with trio_websocket.open_websocket_url(
            f"ws://{host}:{port}/market/stream?streams=btcusdt@kline_1m"
        ) as stream:
            first, second = await stream.get_message(), await stream.get_message()
    assert first == second
    assert json.loads(first)["data"]["k"]["x"]


async def test_a_stalled_handshake_is_never_answered(twin: Exchange, address: Address) -> None:
    """When the client disconnects, the connection is removed."""
    with twin.faults.stalling():
        raw = await trio.open_tcp_stream(*address)
        async with raw:
            await raw.send_all(
                b"GET /market/ws HTTP/1.1\r\nHost: x\r\n"
                b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            with trio.move_on_after(0.05) as patience:
                await raw.receive_some()
            assert patience.cancelled_caught
    assert twin.faults.injected == {"stalling": 1}


async def test_hanging_requests_end_with_a_reset(
    twin: Exchange, client: httpx2.AsyncClient, nursery: trio.Nursery
) -> None:
    """The connection is reset instead of answered."""

    async def ask() -> None:
        with pytest.raises(httpx2.NetworkError):
            await client.get("/fapi/v1/ping")

    async with trio.open_nursery() as asking:
        with twin.faults.hanging_rest():
            asking.start_soon(ask)
            while not twin.faults.injected["hanging_rest"]:
                await trio.testing.wait_all_tasks_blocked(0.001)
    assert (await client.get("/fapi/v1/ping")).json() == {}
