"""How a subscription handles the klines of its stream."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.storage.writing.buffer import Conflation
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation


async def test_late_states_do_not_replace_the_newest_one(autojump_clock: MockClock) -> None:
    """Whether they are of an older candle, or of one that has closed already."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=0
    ) as simulation:
        await trio.sleep(90)
        subscription = simulation.agent.registry.subscription("BTCUSDT", Interval.M1)
        assert subscription is not None
        seen = []
        with simulation.exchange.lies.late_forming():
            for _ in range(600):
                await trio.sleep(0.5)
                newest = subscription.newest
                assert newest is not None
                seen.append((newest.open_time, newest.is_closed))
        assert simulation.exchange.faults.injected["late_forming"] == 5
        assert seen == sorted(seen)
        assert {is_closed for _, is_closed in seen} == {False, True}


async def test_a_row_that_is_lost_while_it_is_handed_on_is_fetched_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the writer's task runs first or the series': chance decides, so it is tried often."""
    put, handed_on = Conflation.put, 0

    def drop_every_other(waiting: Conflation, klines: Iterable[Kline]) -> list[Kline]:
        nonlocal handed_on
        rows = [*klines]
        if not any(row.source == "rest" and row.is_closed for row in rows):
            return put(waiting, rows)
        handed_on += 1
        return rows if handed_on % 2 else put(waiting, rows)

    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=0
    ) as simulation:
        await trio.sleep(300)
        lost = simulation.store.klines["usdm", "BTCUSDT", "1m", FEBRUARY_2026_MS + MINUTE_MS]
        monkeypatch.setattr(Conflation, "put", drop_every_other)
        for times in range(1, 21):
            simulation.agent.registry.refetch([lost])
            await trio.sleep(15)
            assert simulation.agent.registry.missing() == 0
            assert handed_on == 2 * times


async def test_a_repair_that_is_lost_is_fetched_as_one(autojump_clock: MockClock) -> None:
    """The wrong row is still stored, and must not outrank the fetched one."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=0
    ) as simulation:
        await trio.sleep(300)
        right = simulation.store.klines["usdm", "BTCUSDT", "1m", FEBRUARY_2026_MS + MINUTE_MS]
        repair = right.as_repair(right.event_time, above_version=right.version + 10**9)
        for lost in (right, repair):
            simulation.agent.registry.refetch([lost])
            await trio.sleep(60)
            stored = simulation.store.klines[right.key]
            assert stored[4:13] == right[4:13]
            assert (stored.version > repair.version) == (lost is repair)
