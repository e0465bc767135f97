"""The workload under which an agent is measured."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM

ALL_INTERVALS = tuple(each for each in Interval if each in USDM.intervals)
MAX = "max"
"""A rate: as fast as the client reads."""
FRESH = "chdb:"
"""A store: the embedded engine in a folder that is deleted afterwards."""


def _on_usdm(symbols: int | Mapping[str, int]) -> Mapping[str, int]:
    return {USDM.name: symbols} if isinstance(symbols, int) else symbols


@frozen(kw_only=True)
class Workload:
    """The traffic of a measurement, and the store it is recorded into."""

    symbols: Mapping[str, int] = field(converter=_on_usdm)
    """The number of symbols by venue; a number alone is of USD-M."""
    rate: str | None
    """Frames a second, `MAX`, or None for the twin's own pace."""
    seconds: float
    intervals: tuple[Interval, ...] = field(default=ALL_INTERVALS)
    tls: bool | None = False
    """None to measure with and without TLS, where a scenario supports both."""
    store: str = "memory:"
    warm_up_s: float = 3.0
    updates: bool = False
    """Whether every state of a candle is kept, so that every message is parsed in full."""
    requests: int = 0
    """HTTP requests a second that the agent gets in a second window."""
    is_probed: bool = True
    """Whether event-loop lag and `/ping` are measured, which costs some 4 % of a core."""

    @property
    def streams(self) -> int:
        """The number of streams."""
        return sum(self.symbols.values()) * len(self.intervals)
