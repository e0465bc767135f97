"""Few, large reads under a websocket, and what the websocket sees."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

from klineagent.exchange.stream.transport import (
    DEAD_AFTER_S,
    READ_BYTES,
    READ_INTERVAL_S,
    Transport,
)

ACCEPTED = b"HTTP/1.1 101 \r\n\r\n"
PING = b"\x89\x01?"
TEXTS = [
    "",
    "{}",
    "\N{SNOWMAN}" * 30,
    *("x" * size for size in (125, 126, 65_535, 65_536, 200_000)),
]


def _frame(text: str) -> bytes:
    """Write a text frame of less than 126 bytes as a server sends it."""
    return bytes((0x81, len(text))) + text.encode()


def _redeemed(transport: Transport, received: bytes) -> list[bytes]:
    """Redeem frames of less than 126 bytes."""
    out: list[bytes] = []
    while received:
        first, size = received[:2]
        payload, received = received[2 : 2 + size], received[2 + size :]
        out += transport.redeem(payload if first == 0x82 else payload.decode())
    return out


@frozen
class Client:
    """A websocket over `transport`."""

    transport: Transport
    socket: WebSocketConnection

    async def advance(self) -> list[str | bytes]:
        """The next message or messages."""
        message = await self.socket.get_message()
        frames = self.transport.redeem(message)
        return [message] if frames == [message] else [frame.decode() for frame in frames]


@asynccontextmanager
async def _websocket() -> AsyncIterator[tuple[Client, WebSocketConnection]]:
    """A client over `Transport`, and its server."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        servers: list[WebSocketConnection] = []
        nursery.start_soon(_accept, nursery, theirs, servers)
        transport = Transport(ours)
        yield Client(transport, await _connect(nursery, transport)), servers[0]
        nursery.cancel_scope.cancel()


async def _accept(
    nursery: trio.Nursery, stream: trio.abc.Stream, servers: list[WebSocketConnection]
) -> None:
    request = await wrap_server_stream(nursery, stream)
    servers.append(await request.accept())


async def _connect(nursery: trio.Nursery, transport: Transport) -> WebSocketConnection:
    return await wrap_client_stream(
        nursery,
        transport,  # type: ignore[arg-type]  # any stream will do, says its own text
        "exchange.test",
        "/stream",
        message_queue_size=16,
    )


async def test_messages_are_those_that_were_sent(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Of any length; binary messages and texts of two lines stay what they are."""
    async with _websocket() as (client, server):
        sent: list[str | bytes] = [*TEXTS, b"\x00\xff", *TEXTS, "two\nlines", "end"]

        async def send() -> None:
            for message in sent:
                await server.send_message(message)

        nursery.start_soon(send)
        heard: list[str | bytes] = []
        while heard[-1:] != ["end"]:
            heard += await client.advance()
        assert heard == sent


async def test_messages_of_one_read_are_one_ticket(autojump_clock: MockClock) -> None:
    """However many they are."""
    async with _websocket() as (client, server):
        await server.send_message("first")
        assert await client.advance() == ["first"]
        texts = [f"text {number}" for number in range(100)]
        for text in texts:
            await server.send_message(text)
        assert await client.advance() == texts


async def test_data_of_the_client_reaches_the_server(autojump_clock: MockClock) -> None:
    """Unchanged."""
    async with _websocket() as (client, server):
        for text in TEXTS:
            await client.socket.send_message(text)
            assert await server.get_message() == text


async def test_pings_are_answered_in_both_directions(autojump_clock: MockClock) -> None:
    """Among messages, and while none is awaited."""
    async with _websocket() as (client, server):
        for _ in range(3):
            await server.send_message("a")
            await server.send_message("b")
            with trio.fail_after(3 * READ_INTERVAL_S):
                await server.ping(b"are you there?")
                await client.socket.ping(b"and you?")


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1013, 4000])
async def test_the_servers_close_has_its_code_and_reason(
    autojump_clock: MockClock, code: int
) -> None:
    """After the messages before it."""
    heard: list[str | bytes] = []

    async def read_to_the_end(client: Client) -> None:
        with suppress(ConnectionClosed):
            while True:
                heard.extend(await client.advance())

    async with _websocket() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_to_the_end, client)
            await server.send_message("a")
            await server.send_message("b")
            await server.aclose(code, "going away \N{SNOWMAN}")
        assert heard == ["a", "b"]
        for end in (client.socket, server):
            assert _close_of(end) == (code, "going away \N{SNOWMAN}")


def _close_of(end: WebSocketConnection) -> tuple[int, str | None]:
    assert end.closed is not None
    return end.closed.code, end.closed.reason


async def test_the_clients_close_has_its_code_and_reason(autojump_clock: MockClock) -> None:
    """The server's answer arrives."""
    async with _websocket() as (client, server):
        await client.socket.aclose(4001, "enough")
        with pytest.raises(ConnectionClosed):
            await server.get_message()
        assert _close_of(client.socket) == _close_of(server) == (4001, "enough")


async def test_a_stream_that_ends_without_a_close_ends_the_websocket(
    autojump_clock: MockClock,
) -> None:
    """No wait goes on."""
    ours, theirs = memory_stream_pair()
    transport = Transport(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, nursery, theirs, [])
        client = await _connect(nursery, transport)
        await theirs.send_all(_frame("half of it")[:-1])
        await theirs.aclose()
        with pytest.raises(ConnectionClosed):
            await client.get_message()
        assert _close_of(client) == (1006, None)
        nursery.cancel_scope.cancel()
    assert transport.ended.is_set()


# The times of reads


Arrival = tuple[object, list[int]]
"""The (rounded) time of each read, and the numbers in it."""


def _numbered(*numbers: int) -> bytes:
    return b"".join(_frame(f"<{number}>") for number in numbers)


async def _upgraded(stream: trio.abc.Stream, server: trio.abc.Stream) -> Transport:
    """A transport over `stream` that takes frames, after its first read."""
    transport = Transport(stream)
    await server.send_all(ACCEPTED)
    assert await transport.receive_some() == ACCEPTED
    return transport


async def _listen(transport: Transport, arrivals: list[Arrival]) -> None:
    while received := await transport.receive_some():
        texts = b"".join(_redeemed(transport, received))
        numbers = [*map(int, re.findall(rb"<(\d+)>", texts))]
        arrivals.append((pytest.approx(trio.current_time()), numbers))


async def test_frames_gather_between_reads(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The first frame is read at once, later ones at the next moment."""
    ours, theirs = memory_stream_pair()
    arrivals: list[Arrival] = []
    nursery.start_soon(_listen, await _upgraded(ours, theirs), arrivals)
    for number, moment in enumerate([1.005, 1.007, 1.012, 1.019, 1.045, 1.055, 7.001]):
        await trio.sleep_until(moment)
        await theirs.send_all(_numbered(number))
    await wait_all_tasks_blocked()
    assert arrivals == [(1.005, [0]), (1.02, [1, 2, 3]), (1.045, [4]), (1.06, [5]), (7.001, [6])]


async def test_all_transports_wake_at_the_same_moments(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """One wake-up of the process serves them all."""
    pairs = [memory_stream_pair() for _ in range(3)]
    arrivals: list[list[Arrival]] = [[] for _ in pairs]
    for (ours, theirs), each in zip(pairs, arrivals, strict=True):
        nursery.start_soon(_listen, await _upgraded(ours, theirs), each)
    for number, (_, theirs) in enumerate(pairs):
        await trio.sleep_until(1.001 + number * 0.005)
        await theirs.send_all(_numbered(number))
    await trio.sleep_until(1.013)
    for _, theirs in pairs:
        await theirs.send_all(_numbered(99))
    await trio.sleep(1)
    assert [each[0] for each in arrivals] == [(1.001, [0]), (1.006, [1]), (1.011, [2])]
    assert [each[1:] for each in arrivals] == [[(1.02, [99])]] * 3


async def test_a_large_read_is_followed_by_another_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """More data is likely; a small read ends the series."""
    ours, theirs = memory_stream_pair()
    arrivals: list[Arrival] = []
    transport = await _upgraded(ours, theirs)
    frame = _frame("x" * 100)
    await trio.sleep_until(1.005)
    await theirs.send_all(frame * (3 * READ_BYTES // len(frame) + 1) + _numbered(1))
    nursery.start_soon(_listen, transport, arrivals)
    await trio.sleep_until(1.01)
    await theirs.send_all(_numbered(2))
    await trio.sleep(1)
    times, numbers = zip(*arrivals, strict=True)
    assert len(times) >= 4
    assert times == (*[1.005] * (len(times) - 1), 1.02)
    assert numbers[-2:] == ([1], [2])


_READ_INTERVAL_MS = round(READ_INTERVAL_S * 1000)


def _arrivals_ms(sent_ms: Sequence[int]) -> list[int]:
    """Compute when frames sent at those times are read, in whole milliseconds."""
    read_ms, out = 0, []
    for each in sent_ms:
        if each > read_ms:
            read_ms = max(each, (read_ms // _READ_INTERVAL_MS + 1) * _READ_INTERVAL_MS)
        out.append(read_ms)
    return out


@settings(deadline=None)
@given(gaps_ms=st.lists(st.integers(1, 50), max_size=60))
def test_reads_are_paced_whenever_frames_come(gaps_ms: Sequence[int]) -> None:
    """At most one read per interval, none later than the next moment, everything in order."""
    times_ms = itertools.accumulate(gaps_ms)
    # Data sent at the very moment of a read may be in it or not.
    sent_ms = [each for each in times_ms if each % _READ_INTERVAL_MS]

    async def run() -> None:
        ours, theirs = memory_stream_pair()
        arrivals: list[Arrival] = []
        transport = await _upgraded(ours, theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, transport, arrivals)
            for number, each in enumerate(sent_ms):
                await trio.sleep_until(each / 1000)
                await theirs.send_all(_numbered(number))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        expected = [(at / 1000, number) for number, at in enumerate(_arrivals_ms(sent_ms))]
        assert [(at, number) for at, numbers in arrivals for number in numbers] == expected

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_a_cancelled_read_loses_nothing(autojump_clock: MockClock) -> None:
    """Between reads, within a frame, or while no data comes."""
    ours, theirs = memory_stream_pair()
    transport = await _upgraded(ours, theirs)
    sent = _numbered(1, 2, 3)
    with trio.move_on_after(5) as waiting:
        await transport.receive_some()
    await theirs.send_all(sent[:-2])
    assert _redeemed(transport, await transport.receive_some()) == [b"<1>", b"<2>"]
    with trio.move_on_after(READ_INTERVAL_S / 4) as pausing:
        await transport.receive_some()
    with trio.move_on_after(5) as amid_a_frame:
        await transport.receive_some()
    await theirs.send_all(sent[-2:])
    assert await transport.receive_some() == _numbered(3)
    assert waiting.cancelled_caught
    assert pausing.cancelled_caught
    assert amid_a_frame.cancelled_caught
    assert not transport.ended.is_set()


# The end


async def test_the_end_sets_an_event(autojump_clock: MockClock) -> None:
    """Tasks that do not read can wait for it."""
    ours, theirs = memory_stream_pair()
    transport = await _upgraded(ours, theirs)
    await theirs.send_all(_numbered(1))
    await theirs.aclose()
    assert await transport.receive_some() == _numbered(1)
    assert not transport.ended.is_set()
    assert await transport.receive_some() == b""
    assert transport.ended.is_set()


async def test_a_broken_stream_is_reported_by_reading(autojump_clock: MockClock) -> None:
    """The error is the stream's own."""
    ours, theirs = memory_stream_pair()
    transport = await _upgraded(ours, theirs)

    async def reset() -> None:
        raise trio.BrokenResourceError("reset by peer")

    ours.receive_stream.receive_some_hook = reset
    with pytest.raises(trio.BrokenResourceError, match="reset by peer"):
        await transport.receive_some()
    assert transport.ended.is_set()


async def test_a_broken_stream_is_reported_by_sending(autojump_clock: MockClock) -> None:
    """While the reader waits for the next read."""
    ours, theirs = lockstep_stream_pair()
    transport = Transport(ours)
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await transport.send_all(b"hello?")
    assert transport.ended.is_set()


async def test_a_peer_that_vanished_is_noticed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A long silence ends the stream; pings count as data."""
    ours, theirs = memory_stream_pair()
    transport = await _upgraded(ours, theirs)

    async def ping() -> None:
        for _ in range(3):
            await trio.sleep(DEAD_AFTER_S - 1)
            await theirs.send_all(PING)

    nursery.start_soon(ping)
    for _ in range(3):
        assert await transport.receive_some() == PING
    spoke_at = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match=f"no data for {DEAD_AFTER_S} s"):
        await transport.receive_some()
    assert spoke_at == pytest.approx(3 * (DEAD_AFTER_S - 1))
    assert DEAD_AFTER_S <= trio.current_time() - spoke_at <= DEAD_AFTER_S + READ_INTERVAL_S
    assert transport.ended.is_set()


async def test_closing_it_closes_the_stream(autojump_clock: MockClock) -> None:
    """The peer sees the end."""
    ours, theirs = memory_stream_pair()
    transport = Transport(ours)
    await transport.wait_send_all_might_not_block()
    await transport.send_all(b"bye")
    await transport.aclose()
    assert await theirs.receive_some() == b"bye"
    assert await theirs.receive_some() == b""
