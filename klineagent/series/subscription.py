"""The subscription to one series: its nursery, its cancel scope, its stream, its ledger."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

import trio
from attrs import define, field

from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from klineagent.exchange.clock.deadlines import Punctual
from klineagent.exchange.stream.stream_set import Stream
from klineagent.exchange.wire import stream_name
from klineagent.series.backfill.attempts import Attempts
from klineagent.series.backfill.startup import StoredCoverage
from klineagent.series.backfill.worker import Backfill
from klineagent.series.context import VenueContext
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Missing, Urgency


class Phase(enum.IntEnum):
    """How far a subscription has come."""

    STARTING = 0
    SETTLED = 1
    """The exchange has confirmed it, or no caller waits for that."""
    ENDED = 2


def _now() -> str:
    return _as_text(int(time.time()))


@lru_cache(maxsize=1)
def _as_text(now_s: int) -> str:
    # Thousands that begin in one second share its text.
    return datetime.fromtimestamp(now_s, UTC).isoformat()


@define(eq=False, kw_only=True)
class Subscription:
    """Records one series, with no candle missing, until its scope is cancelled."""

    symbol: str
    interval: Interval
    context: VenueContext
    created_at: str = field(factory=_now, init=False)
    """The time in ISO 8601, formatted once: listings show 9,000 of them."""
    newest: Kline | None = field(default=None, init=False)
    """The newest state of the newest candle that came; late events do not replace it."""
    ledger: Ledger = field(init=False)
    audited_ms: int | None = field(default=None, init=False)
    """When the ledger was last compared with the store, by the exchange's clock: by the startup
    scan, and by the audit since. None until the startup scan is done."""
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """The scope to cancel: that of its nursery once it has one."""
    entered: dict[Punctual, None] = field(init=False)
    """See `Punctual`."""
    phase: Phase = field(default=Phase.STARTING, init=False)
    has_looked_back: bool = field(default=False, init=False)
    """Whether the ledger covers all that is stored."""
    refusal: Exception | None = field(default=None, init=False)
    """Why it ended, if the symbol cannot be subscribed."""
    _turned: trio.Event | None = field(default=None, init=False)
    """Set when it enters another phase; made when a caller waits."""
    _backfill: Backfill = field(init=False)
    _stream: Stream | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = Ledger(self.interval, self.context.grace_ms, self.context.tally)
        self._backfill = Backfill(
            symbol=self.symbol,
            stream_name=stream_name(self.symbol, self.interval),
            ledger=self.ledger,
            context=self.context,
        )

    @property
    def stream_name(self) -> str:
        """The stream's name on the wire."""
        return self._backfill.stream_name

    @property
    def newest_ms(self) -> int:
        """The open time of the newest candle that came; 0 before the first."""
        return self._backfill.newest_ms

    @property
    def is_active(self) -> bool:
        """Whether a connection carries it at this moment."""
        return self._stream is not None and self._stream.is_carried

    def enter(self, phase: Phase) -> None:
        """Enter `phase`, unless that is past, and wake those who wait for it."""
        if phase > self.phase:
            self.phase = phase
            if self._turned is not None:
                self._turned.set()
                self._turned = None

    async def reached(self, phase: Phase) -> None:
        """Wait until it has entered `phase` or a later one."""
        while self.phase < phase:
            if self._turned is None:
                self._turned = trio.Event()
            await self._turned.wait()

    async def hold(self, *, patiently: bool) -> None:
        """Run until `scope` is cancelled.

        If the symbol does not trade, it waits `patiently`, or ends.

        Raises:
            ExceptionGroup: of an `InvalidRequest`, before anything is started: the symbol cannot be
                subscribed.
        """
        # All of Binance is 33,000 series, and a task with a nursery takes 3 kB: so this is its only
        # task, and the nursery's own scope is the one to cancel.
        async with trio.open_nursery() as nursery:
            if self.scope.cancel_called:
                nursery.cancel_scope.cancel(reason="it was cancelled before it began")
            self.scope = nursery.cancel_scope
            book = self.context.book
            await (book.until_trading if patiently else book.check)(self.symbol)
            self._stream = self.context.pool.stream(self.stream_name, self._observe, self._carried)
            with self._stream:
                await self.context.time.known()
                self._begin()
                self._scan_store()
                self.context.deadlines.enter(self, self.ledger.deadline_ms)
                try:
                    await self._backfill.run()
                finally:
                    self.context.deadlines.leave(self)
                    self.context.startup_scan.withdraw((self.symbol, self.interval))

    def attempts_at(self, first_ms: int) -> Attempts | None:
        """Return the attempts to fill the gap that begins at `first_ms`; None before the first."""
        return self._backfill.attempts_at(first_ms)

    def refetch(self, kline: Kline) -> None:
        """Fetch a closed candle again whose row was lost before it was stored."""
        self.ledger.reopen(
            kline.open_time, above_version=kline.rank_to_exceed, now_ms=self.context.time.now_ms()
        )
        self._backfill.wake()

    def reopen(self, open_ms: int, *, above_version: int) -> bool:
        """Fetch a closed candle again as a repair; return False if it is not closed."""
        if not self.ledger.has_closed(open_ms):
            return False
        self.ledger.reopen(open_ms, above_version=above_version, now_ms=self.context.time.now_ms())
        self._backfill.wake()
        return True

    def look_back(self, first_ms: int, gaps: Iterable[tuple[int, int]]) -> None:
        """Cover what earlier runs stored since `first_ms`, too, and fetch what lacks in `gaps`."""
        self.has_looked_back = True
        self.ledger.reach_back(first_ms)
        for gap_ms, end_ms in gaps:
            self.ledger.expect(gap_ms, end_ms, Missing(Urgency.HISTORY))
        self._backfill.wake()

    def _carried(self) -> None:
        self.enter(Phase.SETTLED)
        self.context.rest.end_backoff()
        # Closing events were lost while no connection carried the stream.
        if self.ledger.has_begun:
            self.ledger.fall_due(self.context.time.now_ms(), stream_was_away=True)
            self._backfill.wake()

    def fall_due(self, now_ms: int) -> int:
        """Mark candles missing whose closing event did not come in time, whatever the reason."""
        if self.ledger.fall_due(now_ms):
            self.context.misses.note(self.stream_name)
            self._backfill.wake()
        return self.ledger.deadline_ms

    def rewind(self, now_ms: int) -> int:
        """Rewind the ledger, because the clock was ahead and it is `now_ms`."""
        self.ledger.rewind(now_ms)
        if self.audited_ms is not None:
            self.audited_ms = min(self.audited_ms, now_ms)
        self._backfill.wake()  # an absence may be due sooner
        return self.ledger.deadline_ms

    def _scan_store(self) -> None:
        self.context.startup_scan.look_up(
            (self.symbol, self.interval),
            self.ledger.first_ms,
            self._expect,
            listed_ms=self.context.book.listed_ms(self.symbol),
        )

    def _expect(self, found: StoredCoverage) -> None:
        """Mark candles missing that opened before the start and are not stored."""
        now_ms = self.context.time.now_ms()
        self.ledger.reach_back(found.since_ms)
        for gap in found.gaps:
            self.ledger.expect(*gap)
        for absence in found.absences:
            self.ledger.expect_none(*absence)
        self.audited_ms = now_ms
        self._backfill.wake()

    def _begin(self) -> None:
        if not self.ledger.has_begun:
            self.ledger.begin(self.context.time.now_ms())

    def _observe(self, kline: Kline) -> None:
        newest = self.newest
        if newest is None or (kline.open_time, kline.version) >= (newest.open_time, newest.version):
            self.newest, self._backfill.newest_ms = kline, kline.open_time
        # Until the exchange's time is known, it is not known which candles are expected.
        if kline.is_closed and self.context.time.is_known:
            self._begin()
            now_ms = self.context.time.now_ms()
            if self.ledger.close(kline.open_time, now_ms=now_ms):
                self.context.received(kline, now_ms)
