"""What an agent is measured under."""

from __future__ import annotations

from attrs import field, frozen

from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM

ALL_INTERVALS = tuple(each for each in Interval if each in USDM.intervals)
MAX = "max"
"""A rate: as fast as they are taken."""
FRESH = "chdb:"
"""A store: the embedded engine in a folder that is deleted afterwards."""


@frozen(kw_only=True)
class Load:
    """Traffic, and where it goes."""

    symbols: int
    rate: str | None
    """Frames a second, `MAX`, or None for a market that trades as it likes."""
    seconds: float
    intervals: tuple[Interval, ...] = field(default=ALL_INTERVALS)
    tls: bool | None = False
    """None for both ways, where a scenario knows both."""
    store: str = "memory:"
    warm_up_s: float = 3.0
    updates: bool = False
    """Whether every state is kept, so that every message is read in full."""
    requests: int = 0
    """A second, asked of the agent in a window of their own."""
    is_probed: bool = True
    """Whether event loop and `/ping` are looked at, which costs some 4 % of a core."""

    @property
    def streams(self) -> int:
        """How many there are."""
        return self.symbols * len(self.intervals)
