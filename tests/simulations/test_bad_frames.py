"""Frames that do not fit themselves: nothing of them is stored, and their candles are fetched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import trio
from trio.testing import MockClock

from klineagent.kline import SECOND_MS, Interval, Key
from klineagent.market.regularity import Flaw
from klineagent.simulation import Simulation, open_simulation
from klineagent.storage.memory import MemoryStore
from tests.simulations.looking import MINUTE_S, Watch, lacking

INTERVALS = (Interval.M1, Interval.M3, Interval.M5)
STORED_WITHIN_MS = 15 * SECOND_MS


def _crossed(simulation: Simulation) -> AbstractContextManager[None]:
    """Closing events of other symbols and intervals come in place of those of the stream."""
    return simulation.exchange.lies.crossed_streams()


def _contradictory(simulation: Simulation) -> AbstractContextManager[None]:
    """All events say what no candle can be."""
    return simulation.exchange.lies.contradictions()


def _candles(store: MemoryStore) -> dict[Key, tuple[object, ...]]:
    """What closed candles say, without what only streams tell."""
    return {key: kline[:14] for key, kline in store.klines.items() if kline.is_closed}


@pytest.mark.parametrize(
    ("lie", "flaws"),
    [
        (_crossed, {Flaw.SERIES}),
        (_contradictory, set(Flaw) - {Flaw.FUTURE, Flaw.TRADES}),
    ],
)
async def test_candles_whose_closing_events_are_bad_frames_are_stored_in_time(
    autojump_clock: MockClock,
    lie: Callable[[Simulation], AbstractContextManager[None]],
    flaws: set[Flaw],
) -> None:
    """They are missed five seconds after their close, and right in the store within ten more."""
    async with open_simulation(intervals=INTERVALS, history=0) as honest:
        await trio.sleep(40 * MINUTE_S)
    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        watch = Watch(simulation)
        await trio.sleep(2.5 * MINUTE_S)
        with lie(simulation):
            await watch.look(30 * MINUTE_S)
        assert set(simulation.agent.pool.counts.bad) == flaws
        assert len(watch.late_ms) == 3 * (30 + 10 + 6)
        assert {key: ms for key, ms in watch.late_ms.items() if ms > STORED_WITHIN_MS} == {}
        await trio.sleep(5 * MINUTE_S)
        assert lacking(simulation) == []
    assert _candles(simulation.store).items() <= _candles(honest.store).items()
