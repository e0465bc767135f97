"""The probes inside the agent's process."""

from __future__ import annotations

import os
from typing import cast

import pytest
import structlog
import trio
from trio.testing import MockClock

from klineagent.bench.probes import LagProbe, Tally, TwinClock, WatchedStore, memory_of
from klineagent.core.interval import MINUTE_MS
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch
from tests.klines import a_kline


class StandingClock:
    """A twin's clock that stands still."""

    shows_ms: float = 0

    def now_ms(self) -> float:
        return self.shows_ms


async def test_lateness_counts_for_each_moment_of_a_halt(mock_clock: MockClock) -> None:
    """A task delayed by 25 ms is late for its due times at 10 and at 20 ms."""
    probe = LagProbe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.025)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert probe.late_ms == pytest.approx([15, 5])


async def test_a_store_is_watched_and_does_its_work() -> None:
    """Rows and inserts are counted, and how long closed candles waited; once each."""
    store, clock = MemoryStore(), StandingClock()
    watched = WatchedStore(store, cast("TwinClock", clock))
    first, second = a_kline(0), a_kline(1)
    clock.shows_ms = second.open_time
    watched.open_window()
    clock.shows_ms = second.close_time + 700
    await watched.insert(Batch("a", (first, second)))
    clock.shows_ms += MINUTE_MS
    await watched.insert(Batch("b", (second,)))
    assert (watched.inserts, watched.rows) == (2, 3)
    assert watched.waited_ms == {second.key: 700}
    assert watched.ages_ms == [
        age_ms := clock.shows_ms - MINUTE_MS - second.event_time,
        age_ms + MINUTE_MS,
    ]
    assert await watched.found() == 1
    assert watched.label == "memory:"
    # One that got lost on the way.
    watched.waited_ms["usdm", "ETHUSDT", "1m", second.open_time] = 700
    assert await watched.found() == 1


async def test_each_window_begins_anew() -> None:
    """Rows before and after one are counted, and no more."""
    watched = WatchedStore(MemoryStore(), cast("TwinClock", StandingClock()))
    await watched.insert(Batch("a", (a_kline(0),)))
    assert watched.ages_ms == []
    watched.open_window()
    await watched.insert(Batch("b", (a_kline(1),)))
    watched.close_window()
    await watched.insert(Batch("c", (a_kline(2),)))
    assert len(watched.ages_ms) == len(watched.waited_ms) == 1
    watched.open_window()
    assert (watched.ages_ms, watched.waited_ms) == ([], {})
    assert watched.rows == 3


def test_warnings_are_counted_and_nothing_is_printed() -> None:
    """Events below a warning do not count."""
    tally = Tally()
    for level, event in (("info", "listening"), ("warning", "feed_lost"), ("error", "feed_lost")):
        with pytest.raises(structlog.DropEvent):
            tally(None, level, {"event": event})
    assert tally.warnings == {"feed_lost": 2}


def test_memory_is_that_of_the_process() -> None:
    """A process may be given by its id; one that does not exist has none."""
    now, peak = memory_of()
    assert 1_000_000 < now <= peak
    assert memory_of(os.getpid()).peak >= now
    assert memory_of(2**30) == (0, 0)
