from __future__ import annotations

from tests.processes import running_twin


async def test_a_port_alone_is_this_machines() -> None:
    """As for the agent's commands: what others can reach has an address that says so."""
    async with running_twin("--bind", "0") as (_, twin):
        assert str(twin["rest_url"]).startswith("http://127.0.0.1:")
