"""Whatever bytes its ports receive, the agent answers other clients and keeps recording."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from klineagent.api.app import BODY_WITHIN_S
from klineagent.api.server.connection import HEAD_BYTES, HEAD_WITHIN_S, LINGER_S
from klineagent.api.server.listen import MAX_CONNECTIONS
from klineagent.core.address import Bind
from klineagent.core.interval import MINUTE_MS, SECOND_MS
from klineagent.testing.simulation import Simulation, open_simulation

pytestmark = pytest.mark.slow

SYMBOLS = ("BTCUSDT", "ETHUSDT")
BODY = b'{"symbol": "BTCUSDT", "interval": "1m"}'
HEAD = b"POST /streams/add HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ADD = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def under_attack() -> AsyncIterator[Simulation]:
    """An agent that records, and goes on after whatever the block does to it."""
    async with open_simulation(symbols=SYMBOLS) as running:
        await trio.sleep(2 * MINUTE_MS / SECOND_MS)
        yield running
        stored = running.agent.writer.stored
        for bind in (running.agent.command_bind, running.agent.status_bind):
            assert (await _answer(bind, PING)).startswith(b"HTTP/1.1 200")
        await trio.sleep(5 * MINUTE_MS / SECOND_MS)
        # Five minutes are five closed candles of 1m and one of 5m, of each symbol.
        assert running.agent.writer.stored >= stored + 6 * len(SYMBOLS)
        assert running.agent.registry.missing() == 0


@asynccontextmanager
async def _dialled(bind: Bind) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_tcp_stream(*bind)
    async with stream:
        yield stream


async def _read(stream: trio.SocketStream) -> bytes:
    """All that comes until the server hangs up."""
    received = b""
    with suppress(trio.BrokenResourceError):
        async for chunk in stream:
            received += chunk
    return received


async def _answer(bind: Bind, request: bytes) -> bytes:
    async with _dialled(bind) as stream:
        with suppress(trio.BrokenResourceError):  # an answer may be there all the same
            await stream.send_all(request)
        return await _read(stream)


def _mutated(chance: random.Random) -> bytes:
    """A request with something wrong, or nothing."""
    request = bytearray(chance.choice((ADD, CHUNKED, PING, PING + ADD + PING)))
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(request))
        match chance.randrange(6):
            case 0:
                del request[at:]
            case 1:
                request[at] = chance.randrange(256)
            case 2:
                request[at:at] = b"\0" * chance.randint(1, 40)
            case 3:
                request[at:at] = chance.randbytes(chance.randint(1, 400))
            case 4:
                request[at:at] = request[: chance.randint(1, len(request))]
            case _:
                request = request.replace(b"39", chance.choice((b"-1", b"3", b"9" * 30, b"4_0")))
        request = request or bytearray(b"\r\n")
    return bytes(request)


@pytest.mark.parametrize("seed", range(4))
async def test_garbage(autojump_clock: MockClock, seed: int) -> None:
    """Truncated, garbled and pipelined requests get a reason or nothing; never a 500, a stack."""
    chance = random.Random(seed)
    requests = [_mutated(chance) for _ in range(120)]
    answers: list[bytes] = []

    async def ask(bind: Bind, request: bytes) -> None:
        answers.append(await _answer(bind, request))

    async with under_attack() as simulation, trio.open_nursery() as nursery:
        binds = (simulation.agent.command_bind, simulation.agent.status_bind)
        for request in requests:
            nursery.start_soon(ask, chance.choice(binds), request)
    assert len(answers) == len(requests)
    for answer in answers:
        assert answer[:9] in {b"", b"HTTP/1.1 "}
        assert b"HTTP/1.1 500" not in answer
        assert b"Traceback" not in answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\0" * 100 + b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2 * HEAD_BYTES, 431),
        (b"GET /" + b"x" * 2 * HEAD_BYTES, 431),
        (HEAD + b"Content-Length: x\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 1_000_000, 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b"x" * 1024) * 99, 413),
        (HEAD + b"Content-Length: 5\r\n\r\nabcde", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 60, 404),
        (PING[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n", 200),
        (PING[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
        (b"GET /%00%ff%0d%0a HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ],
)
async def test_what_is_wrong_is_told_as_json(
    autojump_clock: MockClock, request_: bytes, status: int
) -> None:
    """Also what never becomes a request; nothing turns into another protocol."""
    async with under_attack() as simulation:
        answer = await _answer(simulation.agent.command_bind, request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status), answer
    assert b"content-type: application/json" in head.lower()
    assert body.startswith(b'{"error":' if status >= 400 else b'{"status":"ok"')


async def _trickle(stream: trio.SocketStream, data: bytes) -> None:
    """A byte a second, until the server's deadline."""
    for byte in data:
        try:
            await stream.send_all(bytes([byte]))
        except trio.BrokenResourceError:
            return
        await trio.sleep(1)


@pytest.mark.parametrize(
    ("at_once", "slowly", "within_s", "answer"),
    [
        (b"", PING, HEAD_WITHIN_S, b""),
        (PING, PING, HEAD_WITHIN_S, b"HTTP/1.1 200"),
        (HEAD + b"Content-Length: 39\r\n\r\n", BODY, BODY_WITHIN_S, b"HTTP/1.1 408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 9, 10, b"HTTP/1.1 408"),
    ],
    ids=["head", "second-head", "body", "chunks"],
)
async def test_slow_clients_are_cut(
    autojump_clock: MockClock, at_once: bytes, slowly: bytes, within_s: float, answer: bytes
) -> None:
    """Trickling bytes do not extend the deadline."""
    async with (
        under_attack() as simulation,
        _dialled(simulation.agent.command_bind) as stream,
        trio.open_nursery() as nursery,
    ):
        started_at = trio.current_time()
        await stream.send_all(at_once)
        nursery.start_soon(_trickle, stream, slowly)
        assert (await _read(stream)).startswith(answer)
        assert trio.current_time() - started_at <= within_s + LINGER_S + 1
        nursery.cancel_scope.cancel()


async def test_connections_without_a_request_end(autojump_clock: MockClock) -> None:
    """An idle client keeps no connection, neither before a request nor after an answer."""
    async with under_attack() as simulation:
        with trio.fail_after(HEAD_WITHIN_S + LINGER_S + 1):
            async with trio.open_nursery() as nursery:
                for first in (b"", PING) * 20:
                    nursery.start_soon(_answer, simulation.agent.status_bind, first)


@pytest.mark.slow
async def test_silent_connections_make_room(autojump_clock: MockClock) -> None:
    """Thousands of idle clients neither keep others out nor use up file descriptors."""
    async with under_attack() as simulation:
        bind = simulation.agent.command_bind
        async with AsyncExitStack() as held:
            for _ in range(4 * MAX_CONNECTIONS):
                await held.enter_async_context(_dialled(bind))
            with trio.fail_after(HEAD_WITHIN_S / 2):
                async with _dialled(bind) as stream:
                    await stream.send_all(PING)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        for _ in range(2000):
            async with _dialled(bind):
                pass


async def test_requests_beyond_all_places_are_refused(autojump_clock: MockClock) -> None:
    """If every connection has a running request, the next one gets 503."""
    async with (
        under_attack() as simulation,
        AsyncExitStack() as held,
        trio.open_nursery() as nursery,
    ):
        bind = simulation.agent.command_bind
        for _ in range(MAX_CONNECTIONS):
            stream = await held.enter_async_context(_dialled(bind))
            await stream.send_all(HEAD + b"Content-Length: 39\r\n\r\n{")
            nursery.start_soon(_read, stream)
        await trio.testing.wait_all_tasks_blocked()
        refused = await _answer(bind, PING)
        assert refused.startswith(b"HTTP/1.1 503")
        assert refused.endswith(b'{"error":"Service Unavailable: too many connections"}')


async def test_answers_nobody_reads_are_dropped(autojump_clock: MockClock) -> None:
    """A client that does not read is disconnected, and the agent's memory stays bounded."""
    async with (
        under_attack() as simulation,
        _dialled(simulation.agent.command_bind) as stream,
    ):
        with trio.fail_after(60):
            await _pipeline(stream)


async def _pipeline(stream: trio.SocketStream) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        while True:
            await stream.send_all(asked * 100)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
