"""Inconsistent frames: none is stored, and their candles are fetched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from klineagent.core.interval import DAY_MS, SECOND_MS, Interval
from klineagent.core.kline import Key
from klineagent.exchange.regularity import Flaw
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import Simulation, open_simulation
from klineagent.twin.faults.events import Events
from klineagent.twin.wire import StreamEvent
from tests.simulations.looking import MINUTE_S, Watch, not_stored

INTERVALS = (Interval.M1, Interval.M3, Interval.M5)
STORED_WITHIN_MS = 15 * SECOND_MS
_TIMES = re.compile(rb'"([tTE])":(\d+)')
_EVENT_TIME, _CLOSE = re.compile(rb'"E":\d+'), re.compile(rb'"c":"(.*?)","h":"(.*?)"')


def _crossed(simulation: Simulation) -> AbstractContextManager[None]:
    """Closing events of other symbols and intervals come in place of those of the stream."""
    return simulation.exchange.lies.crossed_streams()


def _contradictory(simulation: Simulation) -> AbstractContextManager[None]:
    """All events carry impossible values."""
    return simulation.exchange.lies.contradictions()


def _of_next_month(simulation: Simulation) -> AbstractContextManager[None]:
    """Closing events are replaced by those of candles four weeks later."""

    def later(match: re.Match[bytes]) -> bytes:
        return b'"%b":%d' % (match[1], int(match[2]) + 28 * DAY_MS)

    def tamper(events: Events, _now_ms: int) -> Iterator[StreamEvent]:
        for event in events:
            is_closing = event.is_closing
            yield evolve(event, payload=_TIMES.sub(later, event.payload)) if is_closing else event

    return simulation.exchange.faults.tampering(tamper)


def _candles(store: MemoryStore) -> dict[Key, tuple[object, ...]]:
    """Closed candles without the fields that only streams have."""
    return {key: kline[:14] for key, kline in store.klines.items() if kline.is_closed}


@pytest.mark.parametrize(
    ("lie", "flaws"),
    [
        (_crossed, {Flaw.SERIES}),
        (_contradictory, set(Flaw) - {Flaw.FUTURE, Flaw.TRADES}),
        (_of_next_month, {Flaw.FUTURE}),
    ],
)
async def test_candles_whose_closing_events_are_bad_frames_are_stored_in_time(
    autojump_clock: MockClock,
    lie: Callable[[Simulation], AbstractContextManager[None]],
    flaws: set[Flaw],
) -> None:
    """They are missing five seconds after their close, and stored right within ten more."""
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
        assert not_stored(simulation) == []
    assert _candles(simulation.store).items() <= _candles(honest.store).items()


async def test_of_two_closing_events_of_a_candle_the_later_counts(
    autojump_clock: MockClock,
) -> None:
    """Both are consistent: the exchange has corrected itself, and nothing is fetched."""

    def correct(events: Events, _now_ms: int) -> Iterator[StreamEvent]:
        for event in events:
            yield event
            if event.is_closing:
                text = _CLOSE.sub(rb'"c":"\2","h":"\2"', event.payload)
                yield evolve(
                    event, payload=_EVENT_TIME.sub(rb'"E":%d' % (event.event_ms + 1), text)
                )

    async with open_simulation(intervals=INTERVALS, history=0) as simulation:
        with simulation.exchange.faults.tampering(correct):
            await trio.sleep(29.5 * MINUTE_S)
        stored = [row for row in simulation.store.klines.values() if row.source == "stream"]
        corrected = [row for row in stored if row.is_closed]
        assert len(corrected) >= 3 * (29 + 9 + 5)
        assert all(row.close == row.high for row in corrected)
        assert simulation.agent.pool.counts.bad.total() == 0
        assert simulation.agent.registry.missing() == 0
