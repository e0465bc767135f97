"""One (symbol, interval): its nursery, its cancel scope, its stream, its ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

import trio
from attrs import define, field

from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from klineagent.exchange.stream.subscriptions import Stream
from klineagent.exchange.wire import stream_name
from klineagent.series.backfill.attempts import Attempts
from klineagent.series.backfill.worker import Backfill, VenueContext
from klineagent.series.ledger import Ledger


def _order(kline: Kline) -> tuple[int, int]:
    return kline.open_time, kline.version


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@define(eq=False, kw_only=True)
class Subscription:
    """Keeps the klines of one series coming, with none missing, until its scope is cancelled."""

    symbol: str
    interval: Interval
    context: VenueContext
    created_at: str = field(factory=_now, init=False)
    """In ISO 8601: written once, and told of 9,000 at a time."""
    newest: Kline | None = field(default=None, init=False)
    """The newest state of the newest candle that came; a late one does not replace it."""
    ledger: Ledger = field(init=False)
    audited_ms: int | None = field(default=None, init=False)
    """When the ledger was last compared with the store, by the exchange's clock: at the start, as
    soon as the store has answered, and by the audit since."""
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _backfill: Backfill = field(init=False)
    _stream: Stream | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = Ledger(self.interval, self.context.grace_ms, self.context.tally)
        self._backfill = Backfill(
            symbol=self.symbol,
            stream_name=self.stream_name,
            ledger=self.ledger,
            context=self.context,
            newest_ms=self._newest_ms,
        )

    @property
    def stream_name(self) -> str:
        """The name of its stream on the wire."""
        return stream_name(self.symbol, self.interval)

    @property
    def is_active(self) -> bool:
        """Whether a connection carries it at this moment."""
        return self._stream is not None and self._stream.is_carried

    async def hold(self, check: Callable[[str], Awaitable[None]], *, confirmed: trio.Event) -> None:
        """Run until `scope` is cancelled; sets `confirmed` once the exchange has confirmed it.

        `check` returns when the symbol may be subscribed; what it raises comes out of here, and
        nothing was started.
        """
        with self.scope:
            await check(self.symbol)
            async with trio.open_nursery() as nursery:
                # As few tasks as can be: a market has 9,000 series, and each task takes 3 kB.
                nursery.start_soon(self._watch_deadlines)
                nursery.start_soon(self._scan_store)
                carried = partial(self._carried, confirmed)
                with self.context.pool.stream(self.stream_name, self._observe, carried) as stream:
                    self._stream = stream
                    await self._backfill.run()

    def attempts_at(self, first_ms: int) -> Attempts | None:
        """What was tried for the gap that begins at `first_ms`, if anything was in vain."""
        return self._backfill.attempts_at(first_ms)

    def refetch(self, kline: Kline) -> None:
        """A closed candle did not make it into the store."""
        self.ledger.reopen(kline.open_time, above_version=kline.rank_to_exceed)
        self._backfill.wake()

    def reopen(self, open_ms: int, *, above_version: int) -> bool:
        """Fetch a candle again that counts as closed, as a correction; tell whether it does."""
        if not self.ledger.has_closed(open_ms):
            return False
        self.ledger.reopen(open_ms, above_version=above_version)
        self._backfill.wake()
        return True

    def _carried(self, confirmed: trio.Event) -> None:
        confirmed.set()
        self.context.rest.end_backoff()
        # What closed before was told to nobody.
        if self.ledger.has_begun:
            self.ledger.fall_due(self.context.time.now_ms(), stream_was_away=True)
            self._backfill.wake()

    async def _watch_deadlines(self) -> NoReturn:
        """Whatever the socket looks like: a candle that is not closed in time must be fetched."""
        time = self.context.time
        await time.known()
        self._begin()
        while True:
            if not await time.until(self.ledger.deadline_ms):
                self._rewind(time.now_ms())
            elif self.ledger.fall_due(time.now_ms()):
                self.context.misses.note(self.stream_name)
                self._backfill.wake()

    def _rewind(self, now_ms: int) -> None:
        """The clock was ahead, and it is `now_ms`."""
        self.ledger.rewind(now_ms)
        if self.audited_ms is not None:
            self.audited_ms = min(self.audited_ms, now_ms)
        self._backfill.wake()  # an absence may be due sooner

    async def _scan_store(self) -> None:
        """Find out what is missing from before, in the store and as history."""
        await self.context.time.known()
        self._begin()
        begin_ms = self.ledger.first_ms
        found = await self.context.startup_scan.stored_coverage(
            self.symbol, self.interval, begin_ms, listed_ms=self.context.book.listed_ms(self.symbol)
        )
        self.ledger.reach_back(found.since_ms)
        for gap in found.gaps:
            self.ledger.expect(*gap)
        for absence in found.absences:
            self.ledger.expect_none(*absence)
        self.audited_ms = self.context.time.now_ms()
        self._backfill.wake()

    def _begin(self) -> None:
        if not self.ledger.has_begun:
            self.ledger.begin(self.context.time.now_ms())

    def _newest_ms(self) -> int:
        return 0 if self.newest is None else self.newest.open_time

    def _observe(self, kline: Kline) -> None:
        if self.newest is None or _order(kline) >= _order(self.newest):
            self.newest = kline
        # Before the exchange has told the time nobody knows what is expected.
        if kline.is_closed and self.context.time.is_known:
            self._begin()
            self.ledger.close(kline.open_time)
