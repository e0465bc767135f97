"""What the command server answers beside its commands."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.testing.simulation import open_simulation


@pytest.mark.parametrize("path", ["/v1/tail", "/v1/last", "/v1/candles"])
async def test_candles_are_read_at_the_command_server(autojump_clock: MockClock, path: str) -> None:
    """A page needs one address only, even where no server is for reading."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=10, read_bind=None
    ) as simulation:
        assert simulation.agent.read_bind is None
        await trio.sleep(130)
        client = simulation.agent.command.test_client()
        answer = await client.get(f"{path}?symbol=BTCUSDT&interval=1m")
        assert answer.status_code == 200
        body = await answer.get_data(as_text=False)
        if path == "/v1/candles":
            assert body.count(b"\n") == 1 + 12
        else:
            assert msgspec.json.decode(body)["candles"][-1]["source"] == "stream"


async def test_what_a_browser_needs_is_in_the_document(autojump_clock: MockClock) -> None:
    """All that the dashboard asks for."""
    async with open_simulation() as simulation:
        answer = await simulation.agent.command.test_client().get("/openapi.json")
        paths = (await answer.get_json())["paths"]
        read = {"/v1/overview", "/v1/coverage/days", "/v1/tail", "/v1/why", "/v1/coverage"}
        assert {"/", "/dashboard/{name}", "/v1/subscriptions", *read} <= paths.keys()
