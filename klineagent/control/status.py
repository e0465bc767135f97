"""The status server's app: a sign of life, whatever the command server is doing."""

from __future__ import annotations

from quart_trio import QuartTrio

from klineagent.control.application import json_app
from klineagent.control.documents import add_documents
from klineagent.control.guard import ANYONE, Guard
from klineagent.control.models import Pong
from klineagent.control.openapi import operation

_TITLE = "klineagent: status"
_DESCRIPTION = "Whether the agent lives. It answers at once, whatever the command server is doing."


def status_app(guard: Guard = ANYONE) -> QuartTrio:
    """An app that answers `GET /ping`, and documents itself."""
    app = json_app(__name__, guard)
    add_documents(app, guard, title=_TITLE, description=_DESCRIPTION)
    add_ping_route(app, is_open=True)
    return app


def add_ping_route(app: QuartTrio, *, is_open: bool) -> None:
    """`GET /ping`, on either server."""

    @app.get("/ping")
    @operation(Pong, tag="health", is_open=is_open)
    async def ping() -> Pong:
        """Say that the server answers."""
        return Pong()
