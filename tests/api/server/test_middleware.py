"""Requests that arrive together enter one after another, and each has a deadline."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, cast

import trio
import trio.testing
from hypercorn.typing import ASGISendEvent, HTTPScope
from trio.testing import MockClock

from klineagent.api.app import json_app
from klineagent.api.server.middleware import (
    ANSWER_WITHIN_S,
    APART_S,
    PASSES_APART,
    FewAtOnce,
    RequestDeadline,
    RequestPacer,
)

_REQUEST = cast("HTTPScope", {"type": "http"})


async def _nothing(*_: Any) -> Any:
    raise AssertionError("nothing is received or sent here")


async def _entries(requests: int, pass_s: float = 0) -> list[int]:
    """In which pass of the scheduler each request enters that comes in the first, one by one."""
    clock = cast("MockClock", trio.lowlevel.current_clock())
    passes, entered = 0, []

    async def app(*_: Any) -> None:
        entered.append(passes)
        if len(entered) == requests:
            nursery.cancel_scope.cancel(reason="all are in")

    async def count_passes() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1
            clock.jump(pass_s)

    pacer = RequestPacer(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_passes)
        for _ in range(requests):
            nursery.start_soon(pacer, _REQUEST, _nothing, _nothing)
    return entered


async def test_requests_enter_some_passes_apart(mock_clock: MockClock) -> None:
    """As many as one takes to its answer, so that a pass is never long for all of them."""
    entered = await _entries(5)
    apart = [later - earlier for earlier, later in pairwise(entered)]
    assert min(apart) >= PASSES_APART


async def test_requests_do_not_wait_for_passes_that_others_make_long(mock_clock: MockClock) -> None:
    """A loop that is busy with other things would let in too few of them."""
    entered = await _entries(5, pass_s=APART_S)
    apart = [later - earlier for earlier, later in pairwise(entered)]
    assert max(apart) < PASSES_APART


async def test_a_handler_that_never_answers_is_given_up(autojump_clock: MockClock) -> None:
    """Its client gets a 503, and it is cancelled."""
    app, ended = json_app(__name__), trio.Event()

    @app.get("/stuck")
    async def stuck() -> str:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    events: list[ASGISendEvent] = []

    async def send(event: ASGISendEvent) -> None:
        events.append(event)

    async with app.test_app():
        await RequestDeadline(app)(_scope("/stuck"), trio.sleep_forever, send)
    assert ended.is_set()
    assert trio.current_time() == ANSWER_WITHIN_S
    begun, body = events
    assert begun["type"] == "http.response.start"
    assert begun["status"] == 503
    assert body["type"] == "http.response.body"
    assert json.loads(body["body"]) == {"error": "Service Unavailable: no answer within 45 s"}


async def test_few_answers_of_a_path_are_under_way_at_once(autojump_clock: MockClock) -> None:
    """One more waits for a place, and is refused if none becomes free in time."""
    events: list[tuple[float, str, int]] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await trio.sleep(3)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(path: str) -> None:
        async def send(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.start":
                events.append((trio.current_time(), path, event["status"]))
                assert event["status"] == 200 or (b"retry-after", b"5") in event["headers"]

        await few(_scope(path), _nothing, send)

    few = FewAtOnce(app, path="/long", places=trio.CapacityLimiter(1), wait_s=4)
    async with trio.open_nursery() as nursery:
        for path in ("/long", "/long", "/long", "/short"):
            nursery.start_soon(ask, path)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(events) == [
        (3, "/long", 200),
        (3, "/short", 200),
        (4, "/long", 503),
        (6, "/long", 200),
    ]


def _scope(path: str) -> HTTPScope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": None,
        "server": None,
        "state": {},  # type: ignore[typeddict-item]  # nothing of a server
        "extensions": {},
    }
