"""All series at one look: how many there are, what they lack, how far they lag."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import trio
from attrs import define, field

from klineagent.core.kline import Interval
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.series.account import lag_of, overdue_since
from klineagent.series.ledger import Ledger, Urgency

# A millisecond where nothing is missing, and two or three at the worst; then others get their turn.
AT_ONCE = 1000
LASTS_S = 1.0


class Surveyed(Protocol):
    """What is looked at of a `Subscription`."""

    symbol: str
    interval: Interval
    ledger: Ledger
    audited_ms: int | None

    @property
    def is_active(self) -> bool:
        """Whether a feed carries it at this moment."""


@define(eq=False)
class Census:
    """What was counted so far."""

    series: int = field(default=0, init=False)
    active: int = field(default=0, init=False)
    """Carried by a feed at this moment."""
    incomplete: int = field(default=0, init=False)
    """With candles missing."""
    missing: Counter[Urgency] = field(factory=Counter, init=False)
    """Candles."""
    lag_ms: dict[Interval, int] = field(factory=dict, init=False)
    """The longest of each interval."""
    overdue: list[tuple[int, Surveyed]] = field(factory=list, init=False)
    """Series that lack candles although they ran, and since when, by the exchange's clock."""

    audited_ms: int | None = field(default=None, init=False)
    """When the one was last compared with the store whose turn is longest ago."""

    def count(self, series: Surveyed, now_ms: int) -> None:
        """Count one series more."""
        self.series += 1
        if series.audited_ms is not None:
            self.audited_ms = min(series.audited_ms, self.audited_ms or series.audited_ms)
        self.active += series.is_active
        longest_ms = self.lag_ms.setdefault(series.interval, 0)
        ledger = series.ledger
        if not ledger.holes:  # as it is with nearly all of them
            return
        self.incomplete += 1
        self.lag_ms[series.interval] = max(longest_ms, lag_of(ledger, now_ms))
        for hole in ledger.holes:
            self.missing[hole.mark.urgency] += ledger.count([hole])
        if (since_ms := overdue_since(ledger)) is not None:
            self.overdue.append((since_ms, series))


@define(eq=False, kw_only=True)
class Bureau:
    """Counts all series for whoever asks, at most once a second however often that is."""

    subscriptions: Callable[[], Iterable[Surveyed]]
    time: ExchangeTime
    _census: Census = field(factory=Census, init=False)
    _taken_at: float = field(default=-math.inf, init=False)
    _turn: trio.Lock = field(factory=trio.Lock, init=False)

    async def census(self) -> Census:
        """How things stand, or stood a moment ago."""
        async with self._turn:
            if trio.current_time() - self._taken_at >= LASTS_S:
                self._census = await _taken(self.subscriptions(), self.time.now_ms())
                self._taken_at = trio.current_time()
            return self._census


async def _taken(series: Iterable[Surveyed], now_ms: int) -> Census:
    """Count `series`, some at a time."""
    census = Census()
    for number, each in enumerate(series, start=1):
        census.count(each, now_ms)
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return census
