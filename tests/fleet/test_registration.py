from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import httpx2
import pytest
import structlog
import trio
from quart import request
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import MockClock

from klineagent.api.server.listen import open_listener, serve_http
from klineagent.core.address import Bind
from klineagent.fleet.registration import register

MANAGER = Bind("203.0.113.1", 8000)
AGENT = Bind("203.0.113.7", 9999)


@pytest.fixture
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged."""
    with capture_logs() as captured:
        yield captured


async def test_a_manager_that_fails_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent sends its address to a real fleet manager until that accepts."""
    monkeypatch.setattr("klineagent.fleet.registration.BACKOFF_FIRST_S", 0.01)
    manager, bodies = QuartTrio(__name__), []

    @manager.post("/register")
    async def accept() -> tuple[dict[str, str], int]:
        bodies.append(await request.get_json())
        return {"status": "ok"}, 500 if len(bodies) == 1 else 200

    with trio.fail_after(5):
        async with (
            open_listener(Bind("127.0.0.1", 0)) as listener,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(partial(serve_http, manager, listener, drain_s=1))
            await register(listener.bind, AGENT)
            nursery.cancel_scope.cancel()
    assert bodies == [{"ip": AGENT.host, "port": AGENT.port}] * 2


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b'{"status":"ok"}'), (200, b'{"status":"full"}'), (200, b"<html>"), (200, b"\xff")],
)
async def test_other_answers_are_refusals(
    autojump_clock: MockClock,
    events: list[structlog.typing.EventDict],
    status: int,
    body: bytes,
) -> None:
    """Only 200 with status ok is an acceptance; it warns once however often it fails."""
    tries = []

    def answer(asked: httpx2.Request) -> httpx2.Response:
        tries.append(json.loads(asked.content))
        if len(tries) <= 5:
            return httpx2.Response(status, content=body)
        return httpx2.Response(200, content=b'{"status":"ok","id":7}')

    await register(MANAGER, AGENT, transport=httpx2.MockTransport(answer))
    assert len(tries) == 6
    assert [event["event"] for event in events] == ["registration_failed", "registered"]


async def test_a_manager_that_hangs_or_is_away(autojump_clock: MockClock) -> None:
    """A try that hangs or cannot connect is followed by the next."""
    tries = []

    async def answer(asked: httpx2.Request) -> httpx2.Response:
        tries.append(trio.current_time())
        if len(tries) == 1:
            await trio.sleep_forever()
        if len(tries) == 2:
            raise httpx2.ConnectError("refused", request=asked)
        return httpx2.Response(200, json={"status": "ok"})

    with trio.fail_after(60):
        await register(MANAGER, AGENT, transport=httpx2.MockTransport(answer))
    assert len(tries) == 3
    assert tries[1] - tries[0] >= 10


async def test_a_dead_manager_is_left_in_peace(autojump_clock: MockClock) -> None:
    """A day without a manager costs at most a few tries a minute."""
    tries = 0

    def answer(asked: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        raise httpx2.ConnectError("refused", request=asked)

    with trio.move_on_after(24 * 3600):
        await register(MANAGER, AGENT, transport=httpx2.MockTransport(answer))
    assert 24 * 60 <= tries <= 24 * 60 * 3
