from __future__ import annotations

import json

import httpx2
import pytest
import trio
import trio_websocket
from trio.testing import MockClock
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, Request, TextMessage
from wsproto.handshake import H11Handshake

from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.socket import connection as buffer
from klineagent.twin.venues import SPOT
from tests.twin.samples import START_MS, Dial

PATH = "/market/stream"


class BareClient:
    """A client that does nothing by itself: no pongs, no close frames."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = Connection(ConnectionType.CLIENT)

    async def send(self, event: Event) -> None:
        """Send one event."""
        await self.stream.send_all(self.protocol.send(event))

    async def events(self) -> list[Event]:
        """What came with the next bytes; empty at the end of the stream."""
        data = await self.stream.receive_some()
        if data:
            self.protocol.receive_data(bytes(data))
        return list(self.protocol.events())


async def shake_hands(network: TwinNetwork, path: str = PATH) -> BareClient:
    """Open a websocket by hand."""
    stream = await network.open_stream(httpx2.URL(f"wss://exchange{path}"))
    handshake = H11Handshake(ConnectionType.CLIENT)
    await stream.send_all(handshake.send(Request(host="exchange", target=path)))
    handshake.receive_data(bytes(await stream.receive_some()))
    assert handshake.connection is not None
    return BareClient(stream)


async def test_pings_carry_the_time_and_keep_their_rhythm(
    network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """The first comes within 180 s, the next 180 s later, both with the exchange's milliseconds."""
    client = await shake_hands(network)
    times = []
    for _ in range(2):
        (ping,) = await client.events()
        assert isinstance(ping, Ping)
        times.append(int(bytes(ping.payload)))
        assert times[-1] == START_MS + round(trio.current_time() * 1_000)
        await client.send(ping.response())
    assert times[0] < START_MS + 180_000
    assert times[1] - times[0] == pytest.approx(180_000, abs=1)


async def test_a_client_without_pongs_is_disconnected(
    network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """The stream ends without a close frame 600 s after the first unanswered ping."""
    client = await shake_hands(network)
    (first,) = await client.events()
    assert isinstance(first, Ping)
    pinged = trio.current_time()
    while events := await client.events():
        assert all(isinstance(event, Ping) for event in events)
    assert trio.current_time() - pinged == pytest.approx(600, abs=0.1)


@pytest.mark.parametrize("copies_payload", [True, False])
async def test_spot_requires_its_own_payload_in_pongs(
    nursery: trio.Nursery, autojump_clock: MockClock, copies_payload: bool
) -> None:
    """A pong of another payload does not keep a spot connection alive."""
    market = RandomMarket(symbols=1, seed=1, start_ms=START_MS, venue_name="spot")
    async with open_exchange(market, SPOT) as exchange:
        client = await shake_hands(TwinNetwork(exchange, nursery), "/stream")
        with trio.move_on_after(500) as survived:
            while events := await client.events():
                for event in events:
                    if isinstance(event, Ping):
                        payload = bytes(event.payload) if copies_payload else b""
                        await client.send(Pong(payload=payload))
        assert survived.cancelled_caught is copies_payload
        nursery.cancel_scope.cancel()


async def test_any_pong_keeps_a_futures_connection_alive(
    network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """Unsolicited pongs are accepted."""
    client = await shake_hands(network)
    with trio.move_on_after(3_600) as survived:
        while events := await client.events():
            if any(isinstance(event, Ping) for event in events):
                await client.send(Pong(payload=b"still here"))
    assert survived.cancelled_caught


async def test_client_pings_are_answered(dial: Dial) -> None:
    """With their own payload."""
    socket = await dial(PATH)
    with trio.fail_after(1):
        await socket.ping(b"are you there")


async def test_a_client_that_closes_is_answered(dial: Dial, twin: Exchange) -> None:
    """The closing handshake completes, and the exchange removes the connection."""
    socket = await dial(PATH)
    await socket.send_message('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    await socket.get_message()
    assert repr(twin) == "<Exchange usdm online, 1 sockets>"
    with trio.fail_after(1):
        await socket.aclose(1000)
    await trio.testing.wait_all_tasks_blocked()
    assert repr(twin) == "<Exchange usdm online, 0 sockets>"


async def test_the_stream_too_many_closes_with_1008(dial: Dial) -> None:
    """The error comes first, then the close frame."""
    socket = await dial(PATH)
    names = [f"stream{number}" for number in range(1_024)]
    for request_id, params in enumerate([names, ["straw"]]):
        await socket.send_message(
            json.dumps({"method": "SUBSCRIBE", "params": params, "id": request_id})
        )
    assert json.loads(await socket.get_message()) == {"result": None, "id": 0}
    assert json.loads(await socket.get_message())["error"]["code"] == 4
    with pytest.raises(trio_websocket.ConnectionClosed) as closed:
        await socket.get_message()
    assert closed.value.reason is not None
    assert (closed.value.reason.code, closed.value.reason.reason) == (1008, "Invalid request")


async def test_a_burst_closes_with_1008(network: TwinNetwork) -> None:
    """Fifteen of forty requests in one packet are answered."""
    client = await shake_hands(network)
    request = TextMessage(data='{"method":"LIST_SUBSCRIPTIONS","id":1}')
    await client.stream.send_all(b"".join(client.protocol.send(request) for _ in range(40)))
    events = await client.events()
    assert sum(isinstance(event, TextMessage) for event in events) == 15
    (close,) = [event for event in events if isinstance(event, CloseConnection)]
    assert (close.code, close.reason) == (1008, "Too many requests")


async def test_a_client_that_ignores_the_close_is_disconnected(
    network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """The exchange ends the stream five seconds after its close frame."""
    client = await shake_hands(network)
    request = TextMessage(data="x")
    await client.stream.send_all(b"".join(client.protocol.send(request) for _ in range(16)))
    await client.events()
    assert await client.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(5)


async def test_a_request_in_pieces_is_put_together(network: TwinNetwork) -> None:
    """Fragmented messages are one request."""
    client = await shake_hands(network)
    await client.send(TextMessage(data='{"method":"LIST_SUB', message_finished=False))
    await client.send(TextMessage(data='SCRIPTIONS","id":4}'))
    (reply,) = await client.events()
    assert isinstance(reply, TextMessage)
    assert json.loads(reply.data) == {"result": [], "id": 4}


async def test_bytes_that_are_no_frames_end_the_connection(network: TwinNetwork) -> None:
    """The close frame has the code of a protocol error."""
    client = await shake_hands(network)
    await client.stream.send_all(b"\xff" * 16)
    (close,) = await client.events()
    assert isinstance(close, CloseConnection)
    assert close.code == 1002


async def test_an_endless_request_is_refused(network: TwinNetwork) -> None:
    """More than any list of streams needs closes with 1009."""
    client = await shake_hands(network)
    await client.send(TextMessage(data="x" * 300_000))
    (close,) = await client.events()
    assert isinstance(close, CloseConnection)
    assert close.code == 1009


async def test_a_client_that_does_not_read_is_dropped(
    twin: Exchange, network: TwinNetwork, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Unread data is bounded, here to almost nothing."""
    monkeypatch.setattr(buffer, "_MOST_UNSENT_BYTES", 100)
    client = await shake_hands(network, f"{PATH}?streams=btcusdt@kline_1m")
    while data := await client.stream.receive_some():
        assert len(data) <= 100
    assert trio.current_time() < 60
