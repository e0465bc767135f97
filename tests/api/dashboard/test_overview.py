"""The overview of an agent."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from klineagent.testing.simulation import Simulation


async def _overview(simulation: Simulation, since: int = 0) -> Any:
    client = simulation.agent.command.test_client()
    response = await client.get(f"/v1/overview?since={since}")
    assert response.status_code == 200, await response.get_data()
    return await response.get_json()


async def test_an_agent_that_records_is_ready(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """With all of its series, nothing missing, and its limits."""
    await trio.sleep(130)
    found = await _overview(simulation)
    assert found["ready"]
    assert found["reasons"] == []
    assert found["access"] == "command"
    totals = found["totals"]
    assert (totals["symbols"], totals["series"], totals["active"]) == (3, 9, 9)
    assert (totals["missing"], totals["incomplete"], totals["behind_seconds"]) == (0, 0, 0)
    [venue] = found["venues"]
    assert (venue["venue"], venue["is_default"], venue["series"]) == ("usdm", True, 9)
    assert venue["lag_seconds"] == {"1m": 0, "5m": 0, "1h": 0}
    assert venue["limits"]["rest"]["limit"] > 0
    assert found["storage"]["takes_rows"]
