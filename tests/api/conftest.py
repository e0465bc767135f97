from __future__ import annotations

import pytest
import trio
from attrs import define, field

from klineagent.core.errors import InvalidRequest, NotRunning, RequestError, SymbolLimitReached
from klineagent.core.interval import Interval
from klineagent.series.registry import SubscriptionInfo
from klineagent.testing.fixtures import simulation

__all__ = ["simulation"]


@define(eq=False)
class MemorySubscriptions:
    """A twin of the subscriptions: the same promises, no exchange.

    `refusals` and `silent` say for which (symbol, interval) adding fails or never ends.
    """

    max_symbols: int = 100
    refusals: dict[tuple[str, Interval], RequestError] = field(factory=dict)
    silent: set[tuple[str, Interval]] = field(factory=set)
    running: dict[tuple[str, Interval], SubscriptionInfo] = field(factory=dict)

    def count(self) -> int:
        """See `Subscriptions`."""
        return len(self.running)

    def symbols(self) -> list[str]:
        """See `Subscriptions`."""
        return sorted({symbol for symbol, _ in self.running})

    def listing(self) -> list[SubscriptionInfo]:
        """See `Subscriptions`."""
        return list(self.running.values())

    def intervals(self, symbol: str) -> list[Interval]:
        """See `Subscriptions`."""
        return [interval for running, interval in self.running if running == symbol]

    def obstacle(self, symbol: str) -> str:
        """See `Subscriptions`."""
        return "the twin is silent" if self.silent else ""

    async def add(self, symbol: str, interval: Interval) -> bool:
        """See `Subscriptions`."""
        await trio.lowlevel.checkpoint()
        if (symbol, interval) in self.running:
            return False
        if not symbol.isalnum() or not symbol.isascii() or symbol.startswith("NO"):
            raise InvalidRequest(f"symbol: {symbol} does not exist on usdm")
        if symbol not in self.symbols() and len(self.symbols()) >= self.max_symbols:
            raise SymbolLimitReached(f"symbol: {symbol} would be one too many")
        if (refusal := self.refusals.get((symbol, interval))) is not None:
            raise refusal
        if (symbol, interval) in self.silent:
            await trio.sleep_forever()
        created_at = "2026-02-01T20:00:00+00:00"
        self.running[symbol, interval] = SubscriptionInfo(symbol, interval, created_at, True)
        return True

    async def remove(self, symbol: str, interval: Interval) -> None:
        """See `Subscriptions`."""
        await trio.lowlevel.checkpoint()
        if self.running.pop((symbol, interval), None) is None:
            raise NotRunning(f"{symbol} {interval} does not run")


@pytest.fixture
def subscriptions() -> MemorySubscriptions:
    """An empty twin of the registry."""
    return MemorySubscriptions()
