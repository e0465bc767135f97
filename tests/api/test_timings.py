from __future__ import annotations

import trio
from trio.testing import MockClock

from klineagent.api.timings import open_timings
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.storage.store import Batch, Table
from tests.klines import a_kline


async def test_candles_are_timed_that_closed_while_their_series_ran(
    autojump_clock: MockClock,
) -> None:
    """From their close to the acknowledgement; history and states of candles are not."""
    watched, older, forming = a_kline(1), a_kline(0), a_kline(2)._replace(is_closed=False)
    time = ExchangeTime()
    time.confirm(watched.close_time + 1)
    async with open_timings() as timings:
        timings.now_ms = lambda _: time.now_ms()
        timings.watched = lambda kline: kline.open_time >= watched.open_time
        await trio.sleep(1.5)
        timings.acknowledged(Batch("a", (watched, older, forming)), 0.02)
        timings.acknowledged(Batch("b", (watched,), Table.UPDATES), 0.03)
    (histogram,) = timings.stored_after.values()
    assert (histogram.count, histogram.total) == (1, 1.5)
    assert timings.flushes.count == 2


async def test_passes_of_the_loop_are_timed_in_the_block_only(autojump_clock: MockClock) -> None:
    """Each is counted once, and the caller's callback is still called."""
    async with open_timings() as timings:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        during = timings.loop.passes.count
        assert during >= 10
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    assert timings.loop.passes.count == during
