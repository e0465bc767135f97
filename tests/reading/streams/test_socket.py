"""Stream sockets: clients that are slow, silent, too many or too loud."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from klineagent.core.errors import ShuttingDown, TooManySockets
from klineagent.core.interval import MINUTE_MS
from klineagent.reading.streams import hub as hub_module
from klineagent.reading.streams.hub import StreamHub
from klineagent.reading.streams.outbox import MOST_CLOSED
from klineagent.reading.streams.path import read_path
from klineagent.reading.streams.requests import MOST_NAMES, REQUESTS_AT_ONCE
from klineagent.reading.streams.socket import MOST_REQUEST_BYTES, PING_EVERY_S, StreamSocket
from tests.klines import a_kline
from tests.reading.streams.listening import Listening, listening, open_hub, publish
from tests.simulations.looking import logged

BTC = "/ws/btcusdt@kline_1m"


@pytest.fixture
async def hub() -> AsyncIterator[StreamHub]:
    """A hub of a venue that records every series."""
    async with open_hub() as opened:
        yield opened


async def settled() -> None:
    """Wait until what was handed on is sent."""
    await trio.sleep(1.5 * hub_module.LATER_S)


async def trades(client: Listening) -> list[int]:
    """Read all events that have come; return the number of trades of each."""
    numbers = []
    with trio.move_on_after(1):
        while True:
            numbers.append((await client.message())["k"]["n"])
    return numbers


class StuckStream(trio.abc.Stream):
    """The server's end of a connection whose client does not read unless told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.flows = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.flows.wait()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.flows.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


def stuck(hub: StreamHub, nursery: trio.Nursery, path: str = BTC) -> tuple[Listening, StuckStream]:
    """A client that takes nothing, and its connection."""
    ours, theirs = memory_stream_pair()
    stream = StuckStream(theirs)
    wsproto = Connection(ConnectionType.SERVER)
    socket = StreamSocket(stream=stream, wsproto=wsproto, hub=hub, path=read_path(path))
    nursery.start_soon(socket.serve)
    return Listening(ours), stream


async def test_a_slow_client_gets_the_newest_state_and_all_closing_events(
    hub: StreamHub, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """As for the database, states in between are left out."""
    client, stream = stuck(hub, nursery)
    await settled()
    publish(hub, a_kline(0, is_closed=False)._replace(trades=1))
    await settled()
    for state in range(2, 9):
        publish(hub, a_kline(0, is_closed=False)._replace(trades=state, version=2**60 + state))
    for minute in range(3):
        publish(hub, a_kline(minute)._replace(trades=100 + minute))
    publish(hub, a_kline(3, is_closed=False)._replace(trades=200))
    publish(hub, a_kline(3, is_closed=False)._replace(trades=201, version=2**60))
    await trio.sleep(2.5)
    stream.flows.set()
    assert await trades(client) == [1, 100, 101, 102, 201]


async def test_a_client_far_behind_is_told_so(
    hub: StreamHub,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When a thousand closing events wait; it gets no half of them."""
    client, stream = stuck(hub, nursery)
    await settled()
    for minute in range(MOST_CLOSED + 2):
        publish(hub, a_kline(minute))
        if not minute:
            await settled()
    stream.flows.set()
    assert (await client.message())["k"]["x"]
    assert await client.closed() == (1008, "slow consumer")
    assert [line["streams"] for line in logged(caplog, "stream_client_cut")] == [1]
    assert hub.counts.cut == 1
    await settled()
    assert hub.counts.clients == 0


async def test_a_client_that_takes_nothing_is_cut(
    hub: StreamHub,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After three seconds, whatever waits; others are served meanwhile."""
    stuck(hub, nursery)
    async with listening(hub, f"/usdm{BTC}") as other:
        await settled()
        publish(hub, a_kline(0))
        assert (await other.message())["k"]["n"] == 12
        await trio.sleep(2.9)
        assert hub.counts.clients == 2
        await trio.sleep(0.2)
        assert hub.counts.clients == 1
        assert len(logged(caplog, "stream_client_cut")) == 1
        publish(hub, a_kline(1))
        assert (await other.message())["k"]["n"] == 12


async def test_many_candles_at_once_do_not_make_a_client_slow(
    hub: StreamHub, autojump_clock: MockClock
) -> None:
    """As at a minute's close with as many streams as there may be."""
    names = "/".join(f"s{number}@kline_1m" for number in range(MOST_NAMES))
    async with listening(hub, f"/ws/{names}") as client:
        await settled()
        for minute in range(3):
            publish(hub, *(a_kline(minute)._replace(symbol=f"S{n}") for n in range(MOST_NAMES)))
        assert len(await trades(client)) == 3 * MOST_NAMES


async def test_a_stopping_agent_says_so(hub: StreamHub, autojump_clock: MockClock) -> None:
    """To all clients; nobody is let in any more."""
    async with (
        listening(hub, "/ws") as one,
        listening(hub, BTC) as another,
    ):
        await settled()
        hub.close()
        for client in (one, another):
            assert await client.closed() == (1001, "the agent is shutting down")
        with pytest.raises(ShuttingDown):
            hub.check_room()


async def test_a_client_that_closes_gets_an_answer(
    hub: StreamHub, autojump_clock: MockClock
) -> None:
    """And one that is gone is forgotten."""
    async with listening(hub, BTC) as client:
        await client.send(CloseConnection(code=1000))
        event = await client.event()
        assert isinstance(event, CloseConnection)
        assert event.code == 1000
    async with listening(hub, BTC):
        await settled()
        assert hub.counts.clients == 1
    await settled()
    assert hub.counts.clients == 0
    publish(hub, a_kline(0))


async def test_pings_are_answered(hub: StreamHub, autojump_clock: MockClock) -> None:
    """With their own content; each counts as a request."""
    async with listening(hub, BTC) as client:
        assert await client.ponged()
        for _ in range(REQUESTS_AT_ONCE):
            await client.send(Ping())
        assert await client.closed() == (1008, "Too many requests")


async def test_a_client_that_does_not_pong_is_closed(
    hub: StreamHub, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Its network may be gone without a word; one that answers stays."""
    async with (
        listening(hub, BTC) as silent,
        listening(hub, BTC) as answering,
    ):
        nursery.start_soon(answering.text)
        assert isinstance(await silent.event(), Ping)
        assert await silent.closed() == (1008, "no pong")
        assert trio.current_time() == pytest.approx(2 * PING_EVERY_S, abs=1)
        await trio.sleep(PING_EVERY_S)
        assert hub.counts.clients == 1
        publish(hub, a_kline(0))
        await settled()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (BytesMessage(data=b"x"), 1008),
        (TextMessage(data="x" * (MOST_REQUEST_BYTES + 1)), 1009),
    ],
)
async def test_frames_that_no_client_sends_end_the_socket(
    frame: TextMessage | BytesMessage,
    code: int,
    hub: StreamHub,
    autojump_clock: MockClock,
) -> None:
    """Before they fill the memory."""
    async with listening(hub, BTC) as client:
        await client.send(frame)
        assert (await client.closed())[0] == code


async def test_bytes_that_are_no_frames_end_the_socket(
    hub: StreamHub, autojump_clock: MockClock
) -> None:
    """With the code for it."""
    async with listening(hub, BTC) as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.closed())[0] == 1002


async def test_there_is_room_for_so_many(
    hub: StreamHub,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One more is refused with a reason."""
    monkeypatch.setattr(hub_module, "MOST_CLIENTS", 1)
    hub.check_room()
    async with listening(hub, BTC):
        await settled()
        with pytest.raises(TooManySockets, match="1 stream sockets"):
            hub.check_room()
    await settled()
    hub.check_room()


async def test_what_ends_is_not_sent_any_more(hub: StreamHub, autojump_clock: MockClock) -> None:
    """Not even a state that waits; the envelope changes with the next event."""
    async with listening(hub, BTC) as client:
        await settled()
        publish(hub, a_kline(0))
        await client.message()
        await client.ask("SET_PROPERTY", "combined", True)
        assert await client.message() == {"result": None, "id": 1}
        publish(hub, a_kline(1)._replace(trades=5))
        assert (await client.message())["data"]["k"]["n"] == 5
        publish(hub, a_kline(2, is_closed=False)._replace(trades=6))
        assert (await client.message())["data"]["k"]["n"] == 6
        publish(hub, a_kline(2, is_closed=False)._replace(version=2**60))
        await client.ask("UNSUBSCRIBE", "btcusdt@kline_1m")
        publish(hub, a_kline(2)._replace(open_time=a_kline(2).open_time + MINUTE_MS))
        assert await client.message() == {"result": None, "id": 1}
        assert await trades(client) == []
