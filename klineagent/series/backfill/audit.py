"""The audit: compares ledgers with the store, continuously and slowly.

A row that the store has acknowledged may be gone, or a row of an older agent may outrank it; only
the audit notices. A candle is suspect if its ledger calls it closed and the store does not show it.
It is found missing if the store still does not show it after a moment at which the candle was
neither in memory nor in the spool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NoReturn

import structlog
import trio
from attrs import define, field

from klineagent.core.errors import SpoolError, StoreError
from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval, Run, opens_in
from klineagent.core.kline import Kline, SeriesName
from klineagent.core.retry import Trouble
from klineagent.series.ledger import Ledger
from klineagent.series.registry import Registry
from klineagent.series.spans import Span, Spans
from klineagent.series.subscription import Subscription
from klineagent.storage.writing.writer import Writer

# The delay between two queries: at least this, and long enough that queries take a fiftieth of the
# time.
QUERY_DELAY_S = 5.0
SHARE = 0.02
# The shortest pass over all series: with few series it takes longer than their queries.
PASS_S = 600.0
# Candles that closed just now are on their way; including them would cost most of the queries.
SETTLED_AFTER_MS = 3 * MINUTE_MS
# The delay before the second query: a replica that answers it may be behind by as much.
AGAIN_AFTER_S = 30.0
AWAY_S = 60.0
LATER_S = 1.0
CANDLES_AT_ONCE = 10_000
# How long rows may be on their way before the audit logs that it cannot see what is missing, and
# how many segments of the spool it reads to see it nevertheless: some milliseconds each.
PATIENCE_S = 300.0
SEGMENTS_AT_ONCE = 100

log = structlog.get_logger()


def closed_within(ledger: Ledger, first_ms: int, end_ms: int) -> Spans[None]:
    """Return the ranges in [`first_ms`, `end_ms`) whose candles count as closed. Pure."""
    closed: Spans[None] = Spans()
    first_ms, end_ms = max(first_ms, ledger.first_ms), min(end_ms, ledger.horizon_ms)
    if first_ms < end_ms:
        closed.mark(first_ms, end_ms, None)
    for others in (ledger.gaps, ledger.absences):
        for each in others:
            closed.clear(each.first_ms, each.end_ms)
    return closed


def without(suspects: Spans[None], stored: Iterable[Run], interval: Interval) -> Spans[None]:
    """Remove the `stored` runs from `suspects` and return them. Pure."""
    for first_ms, last_ms in stored:
        suspects.clear(first_ms, interval.next_open(last_ms))
    return suspects


def still_suspect(
    suspects: Iterable[Span[None]], ledger: Ledger, on_their_way: Iterable[Kline]
) -> Spans[None]:
    """Return the `suspects` that still count as closed and are not `on_their_way`. Pure."""
    left: Spans[None] = Spans()
    for each in suspects:
        for closed in closed_within(ledger, each.first_ms, each.end_ms):
            left.mark(*closed)
    for row in on_their_way:
        left.clear(row.open_time, ledger.interval.next_open(row.open_time))
    return left


def opens_of(spans: Iterable[Span[None]], interval: Interval) -> Iterator[int]:
    """Yield the open times in `spans`. Pure."""
    for each in spans:
        yield from opens_in(each.first_ms, each.end_ms, interval.value)


@define(eq=False, kw_only=True)
class StoreAudit:
    """Audits every series in turn; missing candles are fetched again and stored as repairs."""

    registry: Registry
    writer: Writer
    _next_at: float = field(default=0.0, init=False)
    """When the store may be queried again, by Trio's clock."""
    _blind: Trouble = field(factory=lambda: Trouble("audit_blind", "audit_sees"), init=False)

    async def run(self) -> NoReturn:
        """Audit all series, again and again."""
        trouble = Trouble("audit_waits", "audit_goes_on")
        while True:
            running = self.registry.subscriptions()
            for series in running:
                await trio.sleep(PASS_S / len(running))
                if series.audited_ms is None or series.scope.cancel_called:
                    continue  # the startup scan is not done, or the subscription is ending
                try:
                    await self._audit(series)
                except StoreError as error:
                    trouble.lasts(error)
                    await trio.sleep(AWAY_S)
                else:
                    trouble.over()
            if not running:
                await trio.sleep(PASS_S)

    async def _audit(self, series: Subscription) -> None:
        """Audit `series`, unless it ends meanwhile or it cannot be seen what is missing."""
        interval, time = series.interval, self.registry.context.time
        first_ms = series.ledger.first_ms
        settled_ms = interval.open_at(time.now_ms() - SETTLED_AFTER_MS)
        while first_ms < settled_ms:
            end_ms = min(interval.shifted(first_ms, CANDLES_AT_ONCE), settled_ms)
            if (lost := await self._lost(series, first_ms, end_ms)) is None:
                return
            if lost:
                await self._reopen(series, [*opens_of(lost, interval)])
            if series.scope.cancel_called:
                return
            first_ms = end_ms
        series.audited_ms = time.now_ms()

    async def _lost(self, series: Subscription, first_ms: int, end_ms: int) -> Spans[None] | None:
        """Return what in [`first_ms`, `end_ms`) is closed and neither stored nor on its way.

        None if it cannot be seen what is on its way.
        """
        await self._turn()
        suspects = closed_within(series.ledger, first_ms, end_ms)
        suspects = without(suspects, await self._stored(series, first_ms, end_ms), series.interval)
        if not suspects:
            return suspects
        await trio.sleep(AGAIN_AFTER_S)
        await self._turn()
        left = await self._not_on_their_way(series, suspects)
        if not left:
            return left
        # From that moment on only the store can have them.
        return without(left, await self._stored(series, first_ms, end_ms), series.interval)

    async def _not_on_their_way(
        self, series: Subscription, suspects: Spans[None]
    ) -> Spans[None] | None:
        """Return the `suspects` that are neither in memory nor in the spool.

        None if that cannot be seen within `PATIENCE_S`, or at once if it could not the last time.
        """
        until = trio.current_time() + (0 if self._blind.error else PATIENCE_S)
        while (left := await self._out_of_sight(series, suspects)) is None:
            if trio.current_time() >= until:
                self._blind.lasts(StoreError("too many rows are on their way to the database"))
                return None
            await trio.sleep(LATER_S)
        self._blind.over()
        return left

    async def _out_of_sight(
        self, series: Subscription, suspects: Spans[None]
    ) -> Spans[None] | None:
        """Return the same as `_not_on_their_way`, without waiting."""
        rows, spool, interval = self.writer.at_risk(), self.writer.spool, series.interval
        if rows is None:
            return None
        name = self._name_of(series)
        left = still_suspect(suspects, series.ledger, (row for row in rows if row[:3] == name))
        if spool is None or spool.is_empty:
            return left
        opens = [*opens_of(left, interval)]
        if len(opens) * spool.segments > SEGMENTS_AT_ONCE:
            return None
        try:
            for open_ms in opens:
                if await spool.holds((*name, open_ms)):
                    left.clear(open_ms, interval.next_open(open_ms))
        except SpoolError:  # the writer logs it
            return None
        return left

    async def _turn(self) -> None:
        """Wait until the store may be queried: it is reachable, and the query delay is over."""
        await trio.sleep_until(self._next_at)
        await self.writer.room()

    async def _stored(self, series: Subscription, first_ms: int, end_ms: int) -> tuple[Run, ...]:
        with self._at_our_share():
            return await self.writer.store.stored_runs(
                *self._name_of(series), first_ms=first_ms, end_ms=end_ms
            )

    async def _reopen(self, series: Subscription, lost: Sequence[int]) -> None:
        """Have candles fetched again, with versions above all their stored rows."""
        with self._at_our_share():
            ranks = await self.writer.store.highest_ranks(
                *self._name_of(series), first_ms=lost[0], end_ms=lost[-1] + 1
            )
        if series.scope.cancel_called:
            return
        reopened = [
            open_ms
            for open_ms in lost
            if series.reopen(open_ms, above_version=max(ranks.get(open_ms, 0), 1))
        ]
        if reopened:
            self.registry.context.tally.overlooked += len(reopened)
            log.error(
                "audit_finding",
                series=series.stream_name,
                candles=len(reopened),
                first=_utc(reopened[0]),
                last=_utc(reopened[-1]),
            )

    @contextmanager
    def _at_our_share(self) -> Iterator[None]:
        """Set the next query so that queries like this block take `SHARE` of the time."""
        began_at = trio.current_time()
        try:
            yield
        finally:
            took_s = trio.current_time() - began_at
            self._next_at = trio.current_time() + max(QUERY_DELAY_S, took_s * (1 / SHARE - 1))

    def _name_of(self, series: Subscription) -> SeriesName:
        return self.registry.context.rest.venue.name, series.symbol, series.interval.value


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC).isoformat(timespec="seconds")
