"""Answers at once, past the app, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import h11
import pytest
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from klineagent.api.server.listen import open_listener, serve_http
from klineagent.api.server.shortcuts import ReadyAnswer, Shortcuts
from klineagent.core.address import Bind

READY = ReadyAnswer(b'["ready"]', ((b"content-type", b"application/json"),))
WITHIN_S = 10


async def _app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"app", "more_body": False})


def _answer(request: h11.Request) -> ReadyAnswer | None:
    return READY if request.target == b"/ready" else None


@pytest.fixture
async def client(nursery: trio.Nursery) -> AsyncIterator[trio.SocketStream]:
    """A connection to a server with an answer at /ready."""
    async with open_listener(Bind("127.0.0.1", 0)) as listener, trio.open_nursery() as serving:
        shortcuts = Shortcuts(answer=_answer)
        serve = partial(serve_http, drain_s=0.1, shortcuts=shortcuts)
        await serving.start(serve, _app, listener)
        with trio.fail_after(WITHIN_S):
            async with await trio.open_tcp_stream("127.0.0.1", listener.bind.port) as stream:
                yield stream
        serving.cancel_scope.cancel()


async def _body(connection: h11.Connection, stream: trio.SocketStream) -> bytes:
    """The next answer's body."""
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return body


async def _ask(
    connection: h11.Connection, stream: trio.SocketStream, path: str, *headers: tuple[str, str]
) -> bytes:
    given = [("host", "x"), *headers]
    request = connection.send(h11.Request(method="GET", target=path, headers=given))
    end = connection.send(h11.EndOfMessage())
    await stream.send_all((request or b"") + (end or b""))
    return await _body(connection, stream)


async def test_answers_at_once_and_those_of_the_app_share_a_connection(
    client: trio.SocketStream,
) -> None:
    """In any order, as often as one likes."""
    connection = h11.Connection(h11.CLIENT)
    for path, expected in (("/ready", READY.body), ("/app", b"app")) * 3 + (
        ("/ready", READY.body),
    ):
        assert await _ask(connection, client, path) == expected
        connection.start_next_cycle()


async def test_requests_that_come_together_are_answered_in_their_order(
    client: trio.SocketStream,
) -> None:
    """Though an answer at once is ready before that of the app."""
    head = "GET {} HTTP/1.1\r\nhost: x\r\n\r\n"
    await client.send_all((head.format("/app") + head.format("/ready") * 2).encode())
    received = b""
    while received.count(READY.body) < 2:
        data = await client.receive_some()
        assert data
        received += data
    assert received.index(b"app") < received.index(READY.body)


async def test_a_client_that_wants_no_more_is_left(client: trio.SocketStream) -> None:
    """After its answer."""
    connection = h11.Connection(h11.CLIENT)
    assert await _ask(connection, client, "/ready", ("connection", "close")) == READY.body
    assert await client.receive_some() == b""


async def test_a_request_with_a_body_is_the_apps(client: trio.SocketStream) -> None:
    """Nothing that follows a body could be told from it otherwise."""
    await client.send_all(b"GET /ready HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]")
    received = b""
    while not received.endswith((b"app", b"0\r\n\r\n")):
        data = await client.receive_some()
        assert data
        received += data
    assert READY.body not in received
