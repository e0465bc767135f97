"""Real candles, real processes, real sockets, real databases: what goes in comes out."""

from __future__ import annotations

import pytest

from klineagent.config.loading import load_config
from klineagent.core.interval import HOUR_MS
from klineagent.storage.opening import open_store
from tests.places import ARCHIVE
from tests.processes import (
    exchange_time_ms,
    running_agent,
    running_twin,
    time_passed,
)
from tests.recorded import check_recorded

SPEED = 1200
REPLAY_MS = 2 * HOUR_MS
# A machine busy with other tests gets much more than it takes.
STOP_WITHIN_S = 20

pytestmark = pytest.mark.skipif(
    not ARCHIVE.exists(), reason="the exchange's archive is not beside the project"
)


async def test_two_replayed_hours_are_stored_as_archived(real_store_url: str) -> None:
    """Every closed candle equals the archive's in every field, none is missing between."""
    async with running_twin("--archive", str(ARCHIVE), "--speed", str(SPEED)) as (_, twin):
        symbols = [str(symbol) for symbol in twin["symbols"]]  # type: ignore[attr-defined]  # JSON
        assert len(symbols) == 7
        async with running_agent(twin, real_store_url, *symbols) as (agent, _):
            await time_passed(twin, REPLAY_MS)
            stopped_at_ms = await exchange_time_ms(twin)
            assert await agent.stop() < STOP_WITHIN_S
            assert agent.process.returncode == 0
            # At this speed the grace of a closing event is four milliseconds.
            told = {event["event"] for event in agent.events if event["level"] != "info"}
            assert told <= {"candles_missed"}

    await check_recorded(real_store_url, symbols, stopped_at_ms)
    async with open_store(real_store_url) as store:
        # The agent tells of itself as well; stopping is not leaving.
        assert {each.interval for each in await store.summary()} >= {"1m", "5m", "15m", "1h"}


def test_the_default_intervals_are_the_contracts() -> None:
    """The replay above covers what a user gets without options."""
    names = [str(interval) for interval in load_config({}, {}, None).intervals]
    assert names == ["1m", "5m", "15m", "1h", "4h", "1d", "1w"]
