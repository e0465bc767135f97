"""What the log tells of series while they run: at once, and then once a minute for all together."""

from __future__ import annotations

import math

import structlog
import trio
from attrs import define, field

from klineagent.trouble import TELL_AGAIN_AFTER_S

log = structlog.get_logger()


@define
class _Burst:
    """Counts what happens until it is time to tell of it."""

    _count: int = field(default=0, init=False)
    _told_at: float = field(default=-math.inf, init=False)

    def add(self, count: int) -> int:
        """Add to what is untold; give all of it if it is to be told now, else 0."""
        self._count += count
        now = trio.current_time()
        if not self._count or now - self._told_at < TELL_AGAIN_AFTER_S:
            return 0
        untold, self._count, self._told_at = self._count, 0, now
        return untold


@define
class Notices:
    """Tells of candles that are not as they should be."""

    _missed: _Burst = field(factory=_Burst, init=False)
    _off_grid: _Burst = field(factory=_Burst, init=False)
    _disproved: _Burst = field(factory=_Burst, init=False)

    def missed(self, stream_name: str) -> None:
        """A candle was not closed in time."""
        if count := self._missed.add(1):
            log.warning("candles_missed", deadlines=count, newest=stream_name)

    def off_grid(self, stream_name: str, candles: int) -> None:
        """That many candles were stored that open off the grid."""
        if count := self._off_grid.add(candles):
            log.warning("candles_off_grid", candles=count, newest=stream_name)

    def disproved(self, stream_name: str, candles: int) -> None:
        """The exchange has that many candles that counted as absent."""
        if count := self._disproved.add(candles):
            log.warning("absences_disproved", candles=count, newest=stream_name)
