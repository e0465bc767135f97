"""Ranges of candles, complete or refused, from store and memory."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from klineagent.core.errors import NotReadable
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.reading.ranges import RangeReader
from klineagent.reading.request import CandleRange
from klineagent.storage.reader import opens_of
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from tests.simulations.looking import MINUTE_S

EVERY = CandleRange(symbol="BTCUSDT", interval=Interval.M1)


def a_reader(simulation: Simulation) -> RangeReader:
    """A reader of what the agent has recorded."""
    return RangeReader(venues=simulation.agent.venues, writer=simulation.agent.writer)


async def opens(
    reader: RangeReader, asked: CandleRange = EVERY, *, with_forming: bool = False
) -> list[int]:
    """The open times of a range of the only series."""
    venue = reader.venues.main.venue
    series = reader.one(venue, "BTCUSDT", Interval.M1)
    [candles] = await reader.open([(series, asked)], with_forming=with_forming)
    found: list[int] = []
    while (part := await candles.part()) is not None:
        found += opens_of(part, "1m")
    return found


async def test_a_range_has_every_candle_once_whenever_it_is_read(
    autojump_clock: MockClock,
) -> None:
    """The newest come from memory, with no wait for the writer."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=600, tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        await trio.sleep(5 * MINUTE_S + 0.3)
        for _ in range(40):
            await trio.sleep(3.1)
            found = await opens(reader)
            now_ms = simulation.exchange.clock.now_ms()
            assert found == [*range(found[0], found[-1] + 1, MINUTE_MS)]
            assert found[-1] == Interval.M1.open_at(now_ms) - MINUTE_MS
            *closed, forming = await opens(reader, with_forming=True)
            assert closed[0] == found[0]
            assert forming == closed[-1] + MINUTE_MS
            newest = CandleRange(symbol="BTCUSDT", interval=Interval.M1, last=3)
            assert len(await opens(reader, newest, with_forming=True)) == 3


async def test_rows_that_the_store_does_not_show_yet_are_read_once_it_does(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the spool, or not on the replica that is asked."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=50, tick_ms=1_000
    ) as simulation:
        reader, store = a_reader(simulation), simulation.store
        await trio.sleep(5 * MINUTE_S + 7)
        late = {key for key, row in store.klines.items() if row.open_time > FEBRUARY_2026_MS}
        with monkeypatch.context() as behind:
            shown = {key: row for key, row in store.klines.items() if key not in late}
            behind.setattr(store, "klines", shown)
            with pytest.raises(NotReadable, match=r"4 candles .* are on the way"):
                await opens(reader)
        assert len(await opens(reader)) >= 55


async def test_a_gap_and_a_store_that_is_away_are_refused(autojump_clock: MockClock) -> None:
    """Before anything is read, and with the reason."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=50, tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        await trio.sleep(3 * MINUTE_S + 7)
        with simulation.store.offline(), pytest.raises(NotReadable, match="cannot be read"):
            await opens(reader)
        with simulation.exchange.offline():
            await trio.sleep(3 * MINUTE_S)
            with pytest.raises(NotReadable, match="of BTCUSDT 1m are missing and being fetched"):
                await opens(reader)
            older = CandleRange(symbol="BTCUSDT", interval=Interval.M1, end_ms=FEBRUARY_2026_MS)
            assert len(await opens(reader, older)) == 50
