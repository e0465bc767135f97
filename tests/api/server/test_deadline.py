from __future__ import annotations

import json

import trio
from hypercorn.typing import ASGISendEvent, HTTPScope
from trio.testing import MockClock

from klineagent.api.app import json_app
from klineagent.api.server.middleware import ANSWER_WITHIN_S, Deadline


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
        await Deadline(app)(_scope("/stuck"), trio.sleep_forever, send)
    assert ended.is_set()
    assert trio.current_time() == ANSWER_WITHIN_S
    begun, body = events
    assert begun["type"] == "http.response.start"
    assert begun["status"] == 503
    assert body["type"] == "http.response.body"
    assert json.loads(body["body"]) == {"error": "Service Unavailable: no answer within 45 s"}


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
