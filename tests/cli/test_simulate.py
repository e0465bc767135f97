from __future__ import annotations

from tests.processes import running_twin


async def test_a_port_alone_is_this_machines() -> None:
    """Only an explicit host makes it reachable from other machines, as for the agent."""
    async with running_twin("--bind", "0") as (_, twin):
        assert str(twin["rest_url"]).startswith("http://127.0.0.1:")
