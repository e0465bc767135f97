"""Requests for `/ping` while an agent is measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from klineagent.bench.child import BenchFailed
from klineagent.bench.pings import Pings
from klineagent.core.errors import first_of


async def failure_of(serve: Callable[[trio.SocketStream], Awaitable[object]]) -> str:
    """The error of the requests when a server treats each connection this way."""
    with pytest.RaisesGroup(BenchFailed, flatten_subgroups=True) as caught:
        async with trio.open_nursery() as nursery:
            serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            listeners = await nursery.start(serving)
            host, port = listeners[0].socket.getsockname()
            await Pings().run(f"{host}:{port}")
    return str(first_of(caught.value))


async def test_an_agent_that_hangs_up_is_told_in_one_line() -> None:
    """The reason is shown instead of the HTTP library's stack trace."""

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    reason = await failure_of(hang_up)
    assert reason.startswith("the agent did not answer /ping: ")
    assert "\n" not in reason


async def test_an_agent_that_does_not_answer_well_is_told() -> None:
    """With the status it gave."""

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    assert "503" in await failure_of(refuse)


async def test_an_agent_that_does_not_answer_at_all_is_told(autojump_clock: MockClock) -> None:
    """Each request has a time limit."""

    async def stand_still(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    assert await failure_of(stand_still) == "the agent did not answer /ping within 10 s"
