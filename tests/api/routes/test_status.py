from __future__ import annotations

from klineagent.api.routes.health import status_app


async def test_ping() -> None:
    """The status app answers a ping."""
    response = await status_app().test_client().get("/ping")
    assert response.status_code == 200
    assert await response.get_json() == {"status": "ok", "message": "pong"}


async def test_everything_else_is_unknown() -> None:
    """The status app answers nothing else."""
    response = await status_app().test_client().get("/status")
    assert response.status_code == 404
    assert list(await response.get_json()) == ["error"]
