"""Real processes that die at any moment: what was recorded stays, what was not is fetched."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import trio

from klineagent.kline import HOUR_MS, MINUTE_MS, Interval, Kline
from klineagent.storage.opening import open_store
from tests.archived import Row, archived, expected, fields_of
from tests.processes import (
    ARCHIVE,
    READY_WITHIN_S,
    Running,
    exchange_time_ms,
    running_agent,
    running_twin,
    starting_agent,
    time_passed,
)

KILLS = int(os.environ.get("KLINEAGENT_KILLS", "6"))
"""How often the agent is killed; 50 take the better part of three archived days."""
SPEED = 600
LIVES_S = (0.3, 4.0)
"""Of every other agent from its first moment on, of the others from when it listens."""
CATCHING_UP_MS = 2 * HOUR_MS
DERIVED = (Interval.M5, Interval.M15, Interval.H1)

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

    checked = 0
    async with open_store(real_store_url) as store:
        for symbol in symbols:
            rows = archived(symbol)
            assert stopped_at_ms < max(rows), "the archive ended before the last kill"
            for interval in (Interval.M1, *DERIVED):
                klines = await store.final_klines("usdm", symbol, interval.value)
                _check(klines, interval, rows, stopped_at_ms)
                checked += len(klines)
    record_property("kills", f"{KILLS}, of these {ready} when it was listening")
    record_property("candles", checked)


async def _kill_after(seconds: float, agent: Running) -> None:
    with trio.move_on_after(seconds):
        await agent.process.wait()
    assert agent.process.poll() is None, f"it ended by itself: {agent.events}"
    await agent.stop(signal.SIGKILL)


def _check(
    klines: list[Kline], interval: Interval, rows: dict[int, Row], stopped_at_ms: int
) -> None:
    """What is stored is what was archived, once, from the first candle to the last that closed."""
    # As history the agent fetches what was before it, and here that is the archive's beginning.
    assert klines[0].open_time == min(rows)
    for before, after in pairwise(klines):
        assert after.open_time == interval.next_open(before.open_time)
    for kline in klines:
        opens = range(kline.open_time, kline.close_time, MINUTE_MS)
        assert fields_of(kline) == expected([rows[each] for each in opens], interval)
    # The candle that closed as it was told to stop may have come too late.
    assert klines[-1].close_time >= interval.open_at(stopped_at_ms - MINUTE_MS) - 1
