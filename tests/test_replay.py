"""Real candles, real processes, real sockets, real databases: what goes in comes out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from klineagent.config import load_config
from klineagent.kline import HOUR_MS, MINUTE_MS, Interval, Kline
from klineagent.storage.opening import open_store
from tests.archived import Row, archived, expected, fields_of
from tests.processes import (
    ARCHIVE,
    exchange_time_ms,
    running_agent,
    running_twin,
    time_passed,
)

SPEED = 600
REPLAY_MS = 2 * HOUR_MS
STOP_WITHIN_S = 5
DERIVED = (Interval.M5, Interval.M15, Interval.H1)

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
            # At this speed the grace of a closing event is eight milliseconds.
            told = {event["event"] for event in agent.events if event["level"] != "info"}
            assert told <= {"candles_missed"}

    async with open_store(real_store_url) as store:
        for symbol in symbols:
            rows = archived(symbol)
            minutes = await store.final_klines("usdm", symbol, "1m")
            _check_minutes(minutes, rows, stopped_at_ms)
            for interval in DERIVED:
                derived = await store.final_klines("usdm", symbol, interval.value)
                _check_derived(derived, interval, rows, minutes)
        # The agent tells of itself as well; stopping is not leaving.
        assert {each.interval for each in await store.summary()} >= {"1m", "5m", "15m", "1h"}


def _check_minutes(minutes: list[Kline], rows: dict[int, Row], stopped_at_ms: int) -> None:
    for before, after in pairwise(minutes):
        assert after.open_time == before.open_time + MINUTE_MS
    for kline in minutes:
        assert fields_of(kline) == expected([rows[kline.open_time]], Interval.M1)
    assert minutes[-1].open_time - minutes[0].open_time >= REPLAY_MS - 2 * MINUTE_MS
    # What had closed when it was told to stop is there.
    assert minutes[-1].close_time >= stopped_at_ms - 2 * MINUTE_MS


def _check_derived(
    derived: list[Kline], interval: Interval, rows: dict[int, Row], minutes: list[Kline]
) -> None:
    for before, after in pairwise(derived):
        assert after.open_time == interval.next_open(before.open_time)
    for kline in derived:
        opens = range(kline.open_time, kline.close_time, MINUTE_MS)
        assert fields_of(kline) == expected([rows[each] for each in opens], interval)
    closed_by_then = interval.open_at(minutes[-1].close_time + 1) - 1
    assert derived[-1].close_time >= closed_by_then
    assert derived[0].close_time <= interval.close_of(interval.open_at(minutes[0].open_time))


def test_the_default_intervals_are_the_contracts() -> None:
    """The replay above covers what a user gets without options."""
    names = [str(interval) for interval in load_config({}, {}, None).intervals]
    assert names == ["1m", "5m", "15m", "1h", "4h", "1d", "1w"]
