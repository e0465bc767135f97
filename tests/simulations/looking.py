"""Access to what a simulation has stored and logged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from attrs import define, field

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Key, Kline
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def closed(store: MemoryStore, symbol: str, interval: Interval) -> list[Kline]:
    """The closed candles of a series, ascending; the store's keys exclude duplicates."""
    klines = (k for k in store.klines.values() if k.is_closed)
    mine = (k for k in klines if (k.symbol, k.interval) == (symbol, interval.value))
    return sorted(mine, key=lambda kline: kline.open_time)


def not_stored(simulation: Simulation, *, since_ms: int = FEBRUARY_2026_MS) -> list[Key]:
    """Candles that closed between `since_ms` and a minute ago and are not stored."""
    return list(_not_stored(simulation, since_ms))


def _not_stored(simulation: Simulation, since_ms: int) -> Iterator[Key]:
    now_ms = simulation.exchange.clock.now_ms()
    klines = simulation.store.klines
    for each in simulation.agent.registry.subscriptions():
        end_ms = each.interval.open_at(now_ms - MINUTE_MS)
        open_ms = each.interval.open_at(since_ms)
        while open_ms < end_ms:
            key = (simulation.agent.pool.venue.name, each.symbol, each.interval.value, open_ms)
            if key not in klines or not klines[key].is_closed:
                yield key
            open_ms = each.interval.next_open(open_ms)


def requests(simulation: Simulation) -> int:
    """The number of requests for candles so far."""
    return simulation.agent.registry.context.counts.requests


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    """The log lines of `event`."""
    return [vars(record) for record in caplog.records if record.getMessage() == event]


@define(eq=False)
class Watch:
    """Looks at the store each second, to see when each closed candle is stored."""

    simulation: Simulation
    late_ms: dict[Key, int] = field(factory=dict, init=False)
    """How long after its close each was seen, by the exchange's clock."""
    _old: set[Key] = field(factory=set, init=False)

    async def look(self, seconds: float) -> None:
        """Look for that long at what is new since the first look."""
        exchange, klines = self.simulation.exchange, self.simulation.store.klines
        self._old.update(key for key, kline in klines.items() if kline.is_closed)
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            await trio.sleep(1)
            now_ms = exchange.clock.now_ms()
            for key, kline in klines.items():
                if kline.is_closed and key not in self._old and key not in self.late_ms:
                    self.late_ms[key] = now_ms - kline.close_time - 1
