"""An agent that starts after an import: what files and REST have brought is not fetched again."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import open_simulation
from tests.history.twin import BEGIN_MS, open_past
from tests.twin.archive.samples import NOON_MS, PlainMarket


async def test_it_asks_for_nothing_that_a_file_has(autojump_clock: MockClock) -> None:
    """The seam has no gap and no double, whatever history the agent should have."""
    store = MemoryStore()
    async with open_past() as past:
        summary = await past.imported(store, intervals=[Interval.H1, Interval.M1])
    assert summary.is_whole
    imported = {**store.klines}
    market = PlainMarket(
        symbols=3, seed=7, start_ms=NOON_MS + 3 * MINUTE_MS, history_ms=40 * DAY_MS + 3 * MINUTE_MS
    )
    async with open_simulation(
        symbols=["BTCUSDT"],
        intervals=[Interval.H1, Interval.M1],
        market=market,
        store=store,
        history=1000,
    ) as simulation:
        await trio.sleep(200)
        counts = simulation.agent.registry.context.counts
    # The minutes between the import and the start, by one request; no hour has closed meanwhile.
    assert (counts.requests, counts.healed) == (1, 3)
    assert {key: store.klines[key] for key in imported} == imported
    minutes = [k.open_time for k in store.klines.values() if k.interval == "1m" and k.is_closed]
    assert sorted(minutes) == [*range(BEGIN_MS, max(minutes) + 1, MINUTE_MS)]
    assert max(minutes) >= NOON_MS + 5 * MINUTE_MS
