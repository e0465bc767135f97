"""Connections come and go, and streams stay."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import WebSocketConnection, wrap_server_stream

from klineagent.core.kline import Kline
from klineagent.exchange.stream.connection import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, IDLE_S
from klineagent.exchange.stream.transport import DEAD_AFTER_S
from klineagent.exchange.venues import NAMES_PER_REQUEST, STREAMS_PER_CONNECTION
from tests.exchange.scripted import NAME, Script, answer, kline_frame, scripted_pool
from tests.places import RECORDED


def _nothing() -> None:
    pass


def _ignore(_: Kline) -> None:
    pass


async def _carry(socket: WebSocketConnection) -> None:
    """Acknowledge everything and send a candle after each request."""
    minute = 0
    while True:
        await answer(socket)
        await socket.send_message(kline_frame(minute))
        minute += 1


async def test_klines_go_to_their_stream_and_to_the_channel(autojump_clock: MockClock) -> None:
    """The stream accepts each kline, and the channel carries it."""
    seen: list[Kline] = []
    async with scripted_pool(_carry) as (pool, _, klines):
        with pool.stream(NAME, seen.append, (carried := trio.Event()).set):
            await carried.wait()
            assert await klines.receive() == seen
        assert seen[0].symbol == "BTCUSDT"


async def test_requests_are_batched_and_paced(autojump_clock: MockClock) -> None:
    """Five hundred streams take three messages, a fifth of a second apart."""
    arrivals: list[tuple[float, int]] = []

    async def watch(socket: WebSocketConnection) -> None:
        while True:
            request = await answer(socket)
            arrivals.append((trio.current_time(), len(request["params"])))

    async with scripted_pool(watch) as (pool, network, _), trio.open_nursery() as nursery:

        async def hold(name: str) -> None:
            with pool.stream(name, _ignore, _nothing):
                await trio.sleep_forever()

        for number in range(500):
            nursery.start_soon(hold, f"s{number}@kline_1m")
        await trio.sleep(5)
        assert [names for _, names in arrivals] == [NAMES_PER_REQUEST, NAMES_PER_REQUEST, 100]
        times = [time for time, _ in arrivals]
        assert all(late - early >= 0.2 - 1e-9 for early, late in itertools.pairwise(times))
        assert network.dials == 1
        nursery.cancel_scope.cancel()


async def test_frames_of_any_other_kind_do_no_harm(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage, unknown events and incomplete frames are counted and logged; klines go on."""
    recorded = RECORDED / "other-frames.jsonl"
    foreign = (
        [json.loads(state)["frame"] for state in recorded.read_text().splitlines()]
        if (recorded.exists())
        else ['{"stream":"x@aggTrade","data":{"e":"aggTrade"}}']
    )
    half = kline_frame()[:200]
    odd = [
        "",
        "garbage",
        "{}",
        "[1,2]",
        half,
        '{"result":null,"id":99}',
        "\N{SNOWMAN}",
        "[" * 100_000,
    ]

    async def confuse(socket: WebSocketConnection) -> None:
        await answer(socket)
        for frame in [*odd, *foreign]:
            await socket.send_message(frame)
        await socket.send_message(b"\xff\xfe binary")
        await socket.send_message(kline_frame())
        await trio.sleep_forever()

    async with scripted_pool(confuse) as (pool, network, klines):
        with pool.stream(NAME, _ignore, _nothing):
            assert (await klines.receive())[0].symbol == "BTCUSDT"
        assert network.dials == 1
        assert pool.counts.bad.total() == len(
            odd
        )  # one of them is an answer to nothing, one is binary
        assert pool.counts.other_events == len(foreign)
    assert {record.msg for record in caplog.records} >= {"bad_frame", "unexpected_answer"}


@pytest.mark.parametrize("code", [1001, 1008, 1011])
async def test_a_closed_connection_is_replaced_with_all_its_streams(
    autojump_clock: MockClock, code: int
) -> None:
    """Whatever the close code, the streams are requested again on a new connection."""

    async def close(socket: WebSocketConnection) -> None:
        await answer(socket)
        await socket.aclose(code, "going away")

    async with scripted_pool(close, _carry) as (pool, network, klines):
        with pool.stream(NAME, _ignore, (carried := trio.Event()).set):
            await klines.receive()
            await carried.wait()
            assert network.dials == 2


async def test_a_request_without_a_response_replaces_the_connection(
    autojump_clock: MockClock,
) -> None:
    """The wait for a response is bounded."""
    times: list[float] = []

    async def ignore(socket: WebSocketConnection) -> None:
        await socket.get_message()
        times.append(trio.current_time())
        await trio.sleep_forever()

    async with scripted_pool(ignore, _carry) as (pool, _, klines):
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
            assert ANSWER_TIMEOUT_S <= trio.current_time() - times[0] <= ANSWER_TIMEOUT_S + 2


async def test_a_refused_request_replaces_the_connection(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log quotes the refusal."""

    async def refuse(socket: WebSocketConnection) -> None:
        request = json.loads(await socket.get_message())
        error = {"code": 4, "msg": "Too many subscriptions"}
        await socket.send_message(json.dumps({"error": error, "id": request["id"]}))
        await trio.sleep_forever()

    async with scripted_pool(refuse, _carry) as (pool, network, klines):
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
            assert network.dials == 2
    assert "Too many subscriptions" in _reason_of_loss(caplog)


async def test_an_exchange_that_drops_every_connection_gets_few_dials(
    autojump_clock: MockClock,
) -> None:
    """Ten minutes of being dropped after each handshake cost few dials."""

    async def drop(socket: WebSocketConnection) -> None:
        await answer(socket)

    async with scripted_pool(drop) as (pool, network, _):
        with pool.stream(NAME, _ignore, _nothing):
            await trio.sleep(600)
    assert network.dials < 100


async def test_an_unwanted_stream_is_unsubscribed(autojump_clock: MockClock) -> None:
    """Leaving the block unsubscribes, and `gone` waits for the acknowledgement."""
    requests: list[dict[str, object]] = []

    async def note(socket: WebSocketConnection) -> None:
        while True:
            requests.append(await answer(socket))

    async with scripted_pool(note) as (pool, _, _):
        with pool.stream(NAME, _ignore, (carried := trio.Event()).set):
            await carried.wait()
        await pool.gone(NAME)
    assert [request["method"] for request in requests] == ["SUBSCRIBE", "UNSUBSCRIBE"]


async def test_an_idle_connection_is_kept_for_a_while_and_then_closed(
    autojump_clock: MockClock,
) -> None:
    """Dials are scarce, so a stream that is added soon after uses the same connection."""
    async with scripted_pool(_carry) as (pool, network, _):
        with pool.stream(NAME, _ignore, (carried := trio.Event()).set):
            await carried.wait()
        await trio.sleep(IDLE_S / 2)
        with pool.stream(NAME, _ignore, (carried := trio.Event()).set):
            await carried.wait()
        assert (network.dials, len(pool.slots)) == (1, 1)
        await trio.sleep(IDLE_S * 3)
        assert len(pool.slots) == 0
        with pool.stream(NAME, _ignore, (carried := trio.Event()).set):
            await carried.wait()
        assert network.dials == 2


async def _hang_up(stream: trio.abc.Stream) -> None:
    await stream.aclose()


async def _speak_nonsense(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"\x15\x03\x01\x00\x02\x02\x28")


async def _accept_wrongly(stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
    )


async def _accept_in_no_language(stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n"
    )


async def _refuse(stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (_hang_up, "exchange.test hung up during the handshake"),
        (_speak_nonsense, "exchange.test broke the protocol: "),
        (_accept_wrongly, "exchange.test broke the protocol: "),
        (_accept_in_no_language, "exchange.test broke the protocol: "),
        (_refuse, "exchange.test refuses a websocket: HTTP 403"),
    ],
)
async def test_a_failed_handshake_is_retried_soon(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    behave: Callable[[trio.abc.Stream], Awaitable[None]],
    reason: str,
) -> None:
    """Whatever answers, it neither ends the agent nor takes the handshake's whole timeout."""
    async with scripted_pool(_carry) as (pool, network, klines):
        network.raw = [behave]
        started = trio.current_time()
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
        assert trio.current_time() - started < CONNECT_TIMEOUT_S
    assert _reason_of_loss(caplog).startswith(reason)


async def _say_goodbye(socket: WebSocketConnection) -> None:
    await answer(socket)
    await socket.aclose(1001, "maintenance")


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (_say_goodbye, "closed by the exchange: 1001 GOING_AWAY, maintenance"),
        (answer, "closed by the exchange: 1000 NORMAL_CLOSURE"),
    ],
)
async def test_a_loss_is_logged_with_the_close_of_the_exchange(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, end: Script, reason: str
) -> None:
    """With its code, name and reason."""
    async with scripted_pool(end, _carry) as (pool, _, klines):
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
    assert _reason_of_loss(caplog) == reason


async def test_a_broken_connection_is_not_logged_as_a_close(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators then look at the network first."""

    async def vanish(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            socket = await (await wrap_server_stream(nursery, stream)).accept()
            await answer(socket)
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

    async with scripted_pool(_carry) as (pool, network, klines):
        network.raw = [vanish]
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
    assert _reason_of_loss(caplog) == "the connection broke"


def _reason_of_loss(caplog: pytest.LogCaptureFixture) -> str:
    lost = next(record for record in caplog.records if record.msg == "feed_lost")
    return str(vars(lost)["reason"])


async def test_a_ping_that_crosses_our_close_does_no_harm(autojump_clock: MockClock) -> None:
    """An idle connection is closed while the exchange pings it; the next stream gets a new one."""

    async def ping_on_close(socket: WebSocketConnection) -> None:
        await answer(socket)
        await socket.send_message(kline_frame())
        await answer(socket)
        # The next frame is our close; pings are sent until then.
        while True:
            await trio.sleep(0.05)
            with trio.move_on_after(0.05):
                await socket.ping()

    async with scripted_pool(ping_on_close, _carry) as (pool, _, klines):
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
        await trio.sleep(IDLE_S + 5)
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()


async def test_a_connection_that_died_silently_is_replaced(autojump_clock: MockClock) -> None:
    """A connection without any data, pings included, for longer than ever is dialled again."""

    async def vanish(socket: WebSocketConnection) -> None:
        await answer(socket)
        await trio.sleep_forever()

    async with scripted_pool(vanish, _carry) as (pool, network, klines):
        with pool.stream(NAME, _ignore, _nothing):
            await klines.receive()
        assert network.dials == 2
        assert DEAD_AFTER_S <= trio.current_time() <= DEAD_AFTER_S + 5


async def test_all_connections_hand_on_forming_candles_in_turns(
    autojump_clock: MockClock,
) -> None:
    """See `Dispatcher`: otherwise a second's rows of all of them come at once."""
    async with scripted_pool(_carry) as (pool, network, _), AsyncExitStack() as held:
        for number in range(STREAMS_PER_CONNECTION + 1):
            held.enter_context(pool.stream(f"s{number}usdt@kline_1m", _ignore, _nothing))
        await trio.sleep(10)
        connections = [connection for each in pool.slots for connection in each.connections]
        assert len(connections) == network.dials == 2
        assert len({id(connection.turns) for connection in connections}) == 1
