"""An exchange that stands still, its connections open: nothing tells of it but the clock."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
import trio

from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.venues import USDM
from klineagent.storage.opening import open_store
from tests.archived import fields_of
from tests.processes import (
    Event,
    Running,
    exchange_time_ms,
    running_agent,
    running_twin,
    time_passed,
)

SPEED = 8
STOP_AT_MS = 54 * SECOND_MS
"""So far into a minute the exchange stops: the agent, whose clock then runs alone and as fast as
any, need not wait long for the next deadline."""
STOPPED_MS = MINUTE_MS
GRACE_S = 5
# A machine busy with other tests gets some more.
SLACK_S = 5
HISTORY = 100


@pytest.mark.parametrize("real_store_url", ["chdb"], indirect=True)
async def test_what_closes_while_the_exchange_stands_still_is_missed_and_fetched(
    real_store_url: str,
) -> None:
    """The next deadline tells of it; when the exchange goes on, no candle is missing."""
    options = ["--intervals", "1m", "--grace", str(GRACE_S), "--history", str(HISTORY)]
    async with running_twin("--speed", str(SPEED), "--symbols", "3") as (process, twin):
        symbols = [str(symbol) for symbol in twin["symbols"]]  # type: ignore[attr-defined]  # JSON
        async with running_agent(twin, real_store_url, *symbols, options=options) as (agent, _):
            await time_passed(twin, 10 * SECOND_MS)
            await time_passed(twin, (STOP_AT_MS - await exchange_time_ms(twin)) % MINUTE_MS)
            stopped_ms = await exchange_time_ms(twin)
            assert not [event for event in agent.events if event["level"] != "info"]
            with _stopped(process):
                with trio.fail_after(MINUTE_MS / SECOND_MS + GRACE_S + SLACK_S):
                    await agent.logged("candles_missed")
            assert await exchange_time_ms(twin) - stopped_ms >= STOPPED_MS
            await time_passed(twin, 30 * SECOND_MS)
            ended_ms = await exchange_time_ms(twin)
            await agent.stop()
            assert agent.process.returncode == 0

        async with open_store(real_store_url) as store:
            for symbol in symbols:
                klines = await store.final_klines("usdm", symbol, "1m")
                told = await _told_by_rest(twin, symbol, klines[0].open_time)
                assert [fields_of(kline) for kline in klines] == told[: len(klines)]
                # From before the start on, and up to all that was due before the end.
                assert klines[0].open_time < stopped_ms - HISTORY * MINUTE_MS
                due_ms = Interval.M1.open_at(ended_ms - GRACE_S * SECOND_MS)
                assert klines[-1].close_time >= due_ms - 1


@contextmanager
def _stopped(each: Running) -> Iterator[None]:
    each.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        each.process.send_signal(signal.SIGCONT)


async def _told_by_rest(twin: Event, symbol: str, first_ms: int) -> list[tuple[object, ...]]:
    """The exchange's own account of a symbol's minutes, the open one included."""
    query: dict[str, str | int] = {"symbol": symbol, "interval": "1m", "startTime": first_ms}
    async with httpx2.AsyncClient(base_url=str(twin["rest_url"])) as client:
        rows = (await client.get(USDM.klines_path, params=query)).json()
    return [
        (row[0], *map(float, row[1:6]), row[6], float(row[7]), row[8], *map(float, row[9:11]))
        for row in rows
    ]
