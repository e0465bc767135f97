"""What all series of one venue share."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import structlog
import trio
from attrs import Factory, define, field, frozen

from klineagent.core.kline import Kline, Publish
from klineagent.core.retry import REPORT_AGAIN_AFTER_S, Burst
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.clock.deadlines import Deadlines
from klineagent.exchange.rest import RestClient
from klineagent.exchange.stream.pool import Pool
from klineagent.exchange.symbols import SymbolBook
from klineagent.series.backfill.startup import StartupScan
from klineagent.series.ledger import MissingCounts

log = structlog.get_logger()


@define(kw_only=True)
class BackfillCounts:
    """Counts what the backfill of all series has done since the start."""

    healed: int = 0
    """Missing candles that were fetched."""
    missed: int = 0
    """Fetched candles whose closing event had not come in time."""
    requests: int = 0
    """Requests, including those that were withdrawn before they were sent."""


@define
class Misses:
    """Logs candles whose closing event did not come in time: at once, then once a minute."""

    _count: int = field(default=0, init=False)
    _reported_at: float = field(default=-math.inf, init=False)

    def note(self, stream_name: str) -> None:
        """Note that a deadline of the stream called `stream_name` has passed."""
        self._count += 1
        now = trio.current_time()
        if now - self._reported_at >= REPORT_AGAIN_AFTER_S:
            log.warning("candles_missed", deadlines=self._count, newest=stream_name)
            self._count, self._reported_at = 0, now


Received = Callable[[Kline, int], object]
"""A function that takes a candle when its closing event came, and the exchange's time then."""


@frozen(kw_only=True)
class VenueContext:
    """The parts that subscriptions of one venue share: connections, REST, clock, counts."""

    pool: Pool
    book: SymbolBook
    rest: RestClient
    time: ExchangeTime
    startup_scan: StartupScan
    publish: Publish
    room: Callable[[], Awaitable[None]]
    """Waits until there is room for fetched rows: the store may be unreachable."""
    grace_ms: int
    received: Received
    """Takes note of each closing event."""
    deadlines: Deadlines = field(
        default=Factory(lambda self: Deadlines(self.time), takes_self=True), init=False
    )
    counts: BackfillCounts = field(factory=BackfillCounts)
    tally: MissingCounts = field(factory=MissingCounts)
    misses: Misses = field(factory=Misses)
    off_grid: Burst = field(factory=lambda: Burst("candles_off_grid"))
    disproved: Burst = field(factory=lambda: Burst("absences_disproved"))
