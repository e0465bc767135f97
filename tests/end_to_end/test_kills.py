"""Real processes that die at any moment: what was recorded stays, what was not is fetched."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio

from klineagent.core.interval import HOUR_MS
from tests.places import ARCHIVE
from tests.processes import (
    READY_WITHIN_S,
    Running,
    exchange_time_ms,
    running_agent,
    running_twin,
    starting_agent,
    time_passed,
)
from tests.recorded import check_recorded

KILLS = int(os.environ.get("KLINEAGENT_KILLS", "6"))
"""How often the agent is killed; 50 take an archived day, a slow machine more."""
SPEED = 600
LIVES_S = (0.3, 4.0)
"""Of every other agent from its first moment on, of the others from when it listens."""
CATCHING_UP_MS = HOUR_MS

pytestmark = pytest.mark.skipif(
    not ARCHIVE.exists(), reason="the exchange's archive is not beside the project"
)


@pytest.mark.parametrize("real_store_url", ["chdb", "installed_server"], indirect=True)
async def test_no_candle_is_lost_where_the_agent_is_killed(
    real_store_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Killed again and again, it ends with every candle the archive has, from the first on."""
    random = Random(1)
    options = ("--spool", str(tmp_path / "spool"))
    ready = 0
    async with running_twin("--archive", str(ARCHIVE), "--speed", str(SPEED)) as (_, twin):
        symbols = [str(symbol) for symbol in twin["symbols"]]  # type: ignore[attr-defined]  # JSON
        for number in range(KILLS):
            async with starting_agent(twin, real_store_url, *symbols, options=options) as agent:
                if number % 2:
                    with trio.fail_after(READY_WITHIN_S):
                        await agent.logged("listening")
                await _kill_after(random.uniform(*LIVES_S), agent)
                ready += any(event["event"] == "listening" for event in agent.events)
        async with running_agent(twin, real_store_url, *symbols, options=options) as (agent, _):
            await time_passed(twin, CATCHING_UP_MS)
            stopped_at_ms = await exchange_time_ms(twin)
            await agent.stop()
            assert agent.process.returncode == 0
            assert not [event for event in agent.events if event["level"] == "error"]

    candles = await check_recorded(real_store_url, symbols, stopped_at_ms)
    record_property("kills", f"{KILLS}, of these {ready} when it was listening")
    record_property("candles", candles)


async def _kill_after(seconds: float, agent: Running) -> None:
    with trio.move_on_after(seconds):
        await agent.process.wait()
    assert agent.process.poll() is None, f"it ended by itself: {agent.events}"
    await agent.stop(signal.SIGKILL)
