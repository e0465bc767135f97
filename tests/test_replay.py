"""Real candles, real processes, real sockets, real databases: what goes in comes out."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import pytest

from klineagent.config import load_config
from klineagent.kline import HOUR_MS, MINUTE_MS, Interval, Kline
from klineagent.storage.opening import open_store
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

Row = dict[str, str]


def _archived(symbol: str) -> dict[int, Row]:
    """The first archived day of `symbol`, by open time, as the exchange wrote it."""
    folder = ARCHIVE / "data/futures/um/daily/klines" / symbol / "1m"
    first_day = min(folder.glob("*.zip"))
    with zipfile.ZipFile(first_day) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    return {int(row["open_time"]): row for row in csv.DictReader(io.StringIO(text))}


def _fields(kline: Kline) -> tuple[object, ...]:
    return (
        *(kline.open_time, kline.open, kline.high, kline.low, kline.close, kline.volume),
        *(kline.close_time, kline.quote_volume, kline.trades),
        *(kline.taker_buy_volume, kline.taker_buy_quote_volume),
    )


def _expected(rows: Sequence[Row], interval: Interval) -> tuple[object, ...]:
    """The candle that `rows`, all minutes of it, make; sums are exact before they are floats."""

    def total(name: str) -> float:
        return float(sum(Decimal(row[name]) for row in rows))

    open_time = int(rows[0]["open_time"])
    return (
        open_time,
        float(rows[0]["open"]),
        max(float(row["high"]) for row in rows),
        min(float(row["low"]) for row in rows),
        float(rows[-1]["close"]),
        total("volume"),
        interval.close_of(open_time),
        total("quote_volume"),
        sum(int(row["count"]) for row in rows),
        total("taker_buy_volume"),
        total("taker_buy_quote_volume"),
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
            assert not [event for event in agent.events if event["level"] != "info"]

    async with open_store(real_store_url) as store:
        for symbol in symbols:
            archived = _archived(symbol)
            minutes = await store.final_klines("usdm", symbol, "1m")
            _check_minutes(minutes, archived, stopped_at_ms)
            for interval in DERIVED:
                derived = await store.final_klines("usdm", symbol, interval.value)
                _check_derived(derived, interval, archived, minutes)
        # The agent tells of itself as well; stopping is not leaving.
        assert {each.interval for each in await store.summary()} >= {"1m", "5m", "15m", "1h"}


def _check_minutes(minutes: list[Kline], archived: dict[int, Row], stopped_at_ms: int) -> None:
    for before, after in pairwise(minutes):
        assert after.open_time == before.open_time + MINUTE_MS
    for kline in minutes:
        assert _fields(kline) == _expected([archived[kline.open_time]], Interval.M1)
    assert minutes[-1].open_time - minutes[0].open_time >= REPLAY_MS - 2 * MINUTE_MS
    # What had closed when it was told to stop is there.
    assert minutes[-1].close_time >= stopped_at_ms - 2 * MINUTE_MS


def _check_derived(
    derived: list[Kline], interval: Interval, archived: dict[int, Row], minutes: list[Kline]
) -> None:
    for before, after in pairwise(derived):
        assert after.open_time == interval.next_open(before.open_time)
    for kline in derived:
        opens = range(kline.open_time, kline.close_time, MINUTE_MS)
        assert _fields(kline) == _expected([archived[each] for each in opens], interval)
    closed_by_then = interval.open_at(minutes[-1].close_time + 1) - 1
    assert derived[-1].close_time >= closed_by_then
    assert derived[0].close_time <= interval.close_of(interval.open_at(minutes[0].open_time))


def test_the_default_intervals_are_the_contracts() -> None:
    """The replay above covers what a user gets without options."""
    names = [str(interval) for interval in load_config({}, {}, None).intervals]
    assert names == ["1m", "5m", "15m", "1h", "4h", "1d", "1w"]
