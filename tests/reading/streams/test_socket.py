"""Stream sockets: clients that are slow, silent, too many or too loud."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from klineagent.core.errors import ShuttingDown, TooManySockets
from klineagent.core.interval import MINUTE_MS
from klineagent.core.kline import Kline
from klineagent.reading.streams import hub as hub_module
from klineagent.reading.streams.flush import LATER_S
from klineagent.reading.streams.hub import StreamHub
from klineagent.reading.streams.outbox import MOST_CLOSED
from klineagent.reading.streams.path import read_path
from klineagent.reading.streams.requests import MOST_NAMES, REQUESTS_AT_ONCE
from klineagent.reading.streams.socket import (
    MOST_REQUEST_BYTES,
    PING_EVERY_S,
    STREAMS_AT_ONCE,
    StreamSocket,
)
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
    await trio.sleep(1.5 * LATER_S)


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

    async def serve() -> None:
        with hub.reserved():
            await socket.serve()

    nursery.start_soon(serve)
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
        with pytest.raises(ShuttingDown), hub.reserved():
            pass


async def test_who_shakes_hands_while_the_agent_stops_is_told_so(
    hub: StreamHub, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """It had room when it asked."""
    ours, theirs = memory_stream_pair()
    wsproto = Connection(ConnectionType.SERVER)
    with hub.reserved():
        hub.close()
        socket = StreamSocket(stream=theirs, wsproto=wsproto, hub=hub, path=read_path(BTC))
        nursery.start_soon(socket.serve)
        assert await Listening(ours).closed() == (1001, "the agent is shutting down")


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


@pytest.mark.parametrize(
    "frames",
    [
        [Pong()] * 20,
        [TextMessage(data="x", message_finished=False)] * 20,
    ],
)
async def test_frames_that_ask_nothing_count_as_requests(
    frames: list[Event], hub: StreamHub, autojump_clock: MockClock
) -> None:
    """Or a flood of them would hold up everyone else."""
    async with listening(hub, BTC) as client:
        for frame in frames:
            await client.send(frame)
        assert await client.closed() == (1008, "Too many requests")


async def test_a_flood_of_frames_is_read_in_portions(
    hub: StreamHub, autojump_clock: MockClock
) -> None:
    """Even one that comes with the handshake; others are served in between."""
    early, turns = 10_000 * Connection(ConnectionType.CLIENT).send(Pong()), 0
    async with listening(hub, BTC, early) as client:
        assert await client.closed() == (1008, "Too many requests")
        while hub.counts.clients:
            await trio.lowlevel.checkpoint()
            turns += 1
    assert turns > 50


async def test_a_long_request_in_many_packets_is_one(
    hub: StreamHub, autojump_clock: MockClock
) -> None:
    """Whatever the network makes of its frame."""
    async with listening(hub, "/ws") as client:
        await client.ask("SUBSCRIBE", *(f"{number:064}" for number in range(MOST_NAMES)))
        assert await client.message() == {"result": None, "id": 1}


async def test_many_streams_are_entered_in_portions(
    hub: StreamHub,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the answer; others are served in between."""
    entered, portions, all_entered = 0, [0], trio.Event()
    listen = StreamHub.listen

    def counting(*args: Any, **options: Any) -> Any:
        nonlocal entered
        entered += 1
        if entered == MOST_NAMES:
            all_entered.set()
        return listen(*args, **options)

    async def watch() -> None:
        seen = 0
        while True:
            await trio.lowlevel.checkpoint()
            portions.append(entered - seen)
            seen = entered

    monkeypatch.setattr(StreamHub, "listen", counting)
    async with listening(hub, "/ws") as client:
        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            await client.ask("SUBSCRIBE", *(f"s{each}usdt@kline_1m" for each in range(MOST_NAMES)))
            await all_entered.wait()
            watching.cancel_scope.cancel()
        assert await client.message() == {"result": None, "id": 1}
        # The watcher may come first in one turn and last in the next.
        assert max(portions) <= 2 * STREAMS_AT_ONCE


async def test_a_client_that_asks_and_does_not_read_is_cut(
    hub: StreamHub,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When a megabyte of answers waits; they are dropped."""
    names = "/".join(f"{number:064}" for number in range(MOST_NAMES))
    client, stream = stuck(hub, nursery, f"/ws/{names}")
    for number in range(2 * REQUESTS_AT_ONCE):
        await client.ask("LIST_SUBSCRIPTIONS")
        if number >= REQUESTS_AT_ONCE - 1:
            await trio.sleep(0.101)
    stream.flows.set()
    assert len((await client.message())["result"]) == MOST_NAMES
    assert await client.closed() == (1008, "slow consumer")
    assert len(logged(caplog, "stream_client_cut")) == 1


@pytest.mark.parametrize(
    ("newest", "greeted"),
    [
        (a_kline(180, is_closed=False), [180]),
        (a_kline(179), [179]),
        (a_kline(179, is_closed=False), [179]),
        (a_kline(178), []),
        (a_kline(0, is_closed=False), []),
        (None, []),
    ],
)
async def test_only_the_present_candle_greets(
    newest: Kline | None, greeted: list[int], autojump_clock: MockClock
) -> None:
    """Or the one that has just closed; a bot must not trade on a price of hours ago."""
    first_ms = a_kline(0).open_time
    async with (
        open_hub(newest, a_kline(180).open_time + 5_000) as hub,
        listening(hub, BTC) as client,
    ):
        events = []
        with trio.move_on_after(1):
            while True:
                events.append((await client.message())["k"]["t"])
        assert [(open_ms - first_ms) // MINUTE_MS for open_ms in events] == greeted
        publish(hub, a_kline(0))
        async with listening(hub, BTC) as another:
            assert len(await trades(another)) == len(greeted)


async def test_a_close_frame_in_the_packet_of_the_handshake(
    hub: StreamHub, autojump_clock: MockClock
) -> None:
    """Ends the socket; what comes after it is not read."""
    early = Connection(ConnectionType.CLIENT).send(CloseConnection(code=1000))
    async with listening(hub, BTC, early) as client:
        await client.stream.send_all(b"more")
        event = await client.event()
        assert isinstance(event, CloseConnection)
        assert event.code == 1000


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
    """One more is refused with a reason, even while the last one still shakes hands."""
    monkeypatch.setattr(hub_module, "MOST_CLIENTS", 1)
    for _ in range(2):
        with (
            hub.reserved(),
            pytest.raises(TooManySockets, match="1 stream sockets"),
            hub.reserved(),
        ):
            pass
    async with listening(hub, BTC):
        await settled()
        with pytest.raises(TooManySockets), hub.reserved():
            pass


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
