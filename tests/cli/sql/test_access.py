"""Tables that an agent holds open are read with its permission."""

from __future__ import annotations

from pathlib import Path

import pytest

from klineagent.testing.simulation import open_simulation
from tests.cli.typed import typed_aside


async def test_a_token_that_only_reads_takes_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what it is for, and which token that takes."""
    monkeypatch.chdir(tmp_path)
    reading, commanding = "reading-token-0001", "commanding-token-01"
    async with open_simulation(symbols=[], token=commanding, read_token=reading) as simulation:
        agent = f"http://{simulation.agent.command_bind}"
        refused = await typed_aside("show", "--agent", agent, KLINEAGENT_TOKEN=reading)
    assert (refused.code, refused.err.count("\n")) == (4, 1)
    assert "this token only reads" in refused.err
    assert "wants the token that commands, not one that only reads" in refused.err
