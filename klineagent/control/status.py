"""The status server's app: a sign of life, whatever the command server is doing."""

from __future__ import annotations

from quart_trio import QuartTrio

from klineagent.control.application import json_app

PONG = {"status": "ok", "message": "pong"}


def status_app() -> QuartTrio:
    """An app that answers `GET /ping` and nothing else."""
    app = json_app(__name__)

    @app.get("/ping")
    async def ping() -> dict[str, str]:
        return PONG

    return app
