"""Compares for ever, slowly, what ledgers call closed with what the store holds.

A row that the store had acknowledged may be gone, or a row of an older agent may outrank it: then
nothing else here would ever notice. A candle is suspect if its ledger calls it closed and the store
does not show it. It is found missing if that is so still when the store is asked again, after a
moment in which the candle was neither in memory nor in the spool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import NoReturn

import structlog
import trio
from attrs import define, field

from klineagent.errors import StoreError
from klineagent.kline import MINUTE_MS, SECOND_MS, Interval, Kline
from klineagent.series.ledger import Ledger
from klineagent.series.registry import Registry
from klineagent.series.spans import Span, Spans
from klineagent.series.subscription import Subscription
from klineagent.storage.runs import Run, opens_in
from klineagent.storage.writer import Writer
from klineagent.trouble import Trouble

# Between two questions: at least some seconds, and so long that they take a fiftieth of the time.
PAUSE_S = 5.0
SHARE = 0.02
# A pass over few series takes longer than their questions do.
PASS_S = 600.0
# What closed just now is on its way; looking at it twice would cost most questions.
SETTLED_AFTER_MS = 3 * MINUTE_MS
# Where reads are answered by a replica, it may be behind by as much.
AGAIN_AFTER_S = 30.0
AWAY_S = 60.0
LATER_S = 1.0
CANDLES_AT_ONCE = 10_000
# Each has its rank looked up; the rest is found by the next pass.
FOUND_AT_ONCE = 1_000

log = structlog.get_logger()


def closed_within(ledger: Ledger, first_ms: int, end_ms: int) -> Spans[None]:
    """The open times in [`first_ms`, `end_ms`) whose candles count as closed. Pure."""
    closed: Spans[None] = Spans()
    first_ms, end_ms = max(first_ms, ledger.first_ms), min(end_ms, ledger.horizon_ms)
    if first_ms < end_ms:
        closed.mark(first_ms, end_ms, None)
    for others in (ledger.holes, ledger.absences):
        for each in others:
            closed.clear(each.first_ms, each.end_ms)
    return closed


def without(suspects: Spans[None], stored: Iterable[Run], interval: Interval) -> Spans[None]:
    """Those of `suspects` that are not stored. Pure."""
    for first_ms, last_ms in stored:
        suspects.clear(first_ms, interval.next_open(last_ms))
    return suspects


def still_suspect(
    suspects: Iterable[Span[None]], ledger: Ledger, on_their_way: Iterable[Kline]
) -> Spans[None]:
    """Those of `suspects` that count as closed now and are not `on_their_way`. Pure."""
    left: Spans[None] = Spans()
    for each in suspects:
        for closed in closed_within(ledger, each.first_ms, each.end_ms):
            left.mark(*closed)
    for row in on_their_way:
        left.clear(row.open_time, ledger.interval.next_open(row.open_time))
    return left


def opens_of(spans: Iterable[Span[None]], interval: Interval) -> Iterator[int]:
    """The open times in `spans`. Pure."""
    for each in spans:
        yield from opens_in(each.first_ms, each.end_ms, interval.value)


@define(eq=False, kw_only=True)
class Audit:
    """Looks at every series in turn; what it finds is fetched again and written as a correction."""

    registry: Registry
    writer: Writer
    _next_at: float = field(default=0.0, init=False)
    """When the store may be asked again."""

    async def run(self) -> NoReturn:
        """Look at all series, again and again."""
        trouble = Trouble("audit_waits", "audit_goes_on")
        while True:
            running = self.registry.subscriptions()
            for series in running:
                await trio.sleep(PASS_S / len(running))
                if series.audited_ms is None or series.scope.cancel_called:
                    continue  # its start is not over, or its end has begun
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
        interval, time = series.interval, self.registry.means.time
        first_ms = series.ledger.first_ms
        settled_ms = interval.open_at(time.now_ms() - SETTLED_AFTER_MS)
        while first_ms < settled_ms:
            end_ms = min(interval.shifted(first_ms, CANDLES_AT_ONCE), settled_ms)
            if lost := await self._lost(series, first_ms, end_ms):
                await self._reopen(series, lost)
            first_ms = end_ms
        series.audited_ms = time.now_ms()

    async def _lost(self, series: Subscription, first_ms: int, end_ms: int) -> Spans[None]:
        """What of [`first_ms`, `end_ms`) counts as closed and is neither stored nor on its way."""
        await self._turn()
        suspects = closed_within(series.ledger, first_ms, end_ms)
        suspects = without(suspects, await self._stored(series, first_ms, end_ms), series.interval)
        if not suspects:
            return suspects
        await trio.sleep(AGAIN_AFTER_S)
        await self._turn()
        suspects = still_suspect(suspects, series.ledger, await self._on_their_way(series))
        # From that moment on nothing but the store can have them.
        return without(suspects, await self._stored(series, first_ms, end_ms), series.interval)

    async def _on_their_way(self, series: Subscription) -> list[Kline]:
        """The rows of `series` that are in memory, once none of anybody's is on disk."""
        while True:
            rows, spool = self.writer.at_risk(), self.writer.spool
            if rows is not None and (spool is None or spool.is_empty):
                name = (series.symbol, series.interval.value)
                return [row for row in rows if (row.symbol, row.interval) == name]
            await trio.sleep(LATER_S)

    async def _turn(self) -> None:
        """Wait until the store may be asked: it is there, and others had it for long enough."""
        await trio.sleep_until(self._next_at)
        await self.writer.room()

    async def _stored(self, series: Subscription, first_ms: int, end_ms: int) -> tuple[Run, ...]:
        with self._at_our_share():
            return await self.writer.store.stored_runs(
                *self._name_of(series), first_ms=first_ms, end_ms=end_ms
            )

    async def _reopen(self, series: Subscription, lost: Spans[None]) -> None:
        """Have candles fetched again; no row that is stored of them may outrank what comes."""
        reopened: list[int] = []
        try:
            with self._at_our_share():
                for open_ms in islice(opens_of(lost, series.interval), FOUND_AT_ONCE):
                    rank = await self.writer.store.highest_rank(*self._name_of(series), open_ms)
                    if series.reopen(open_ms, above_version=max(rank or 0, 1)):
                        reopened.append(open_ms)
        finally:
            if reopened:
                self.registry.means.tally.overlooked += len(reopened)
                log.error(
                    "audit_finding",
                    series=series.stream_name,
                    candles=len(reopened),
                    first=_utc(reopened[0]),
                    last=_utc(reopened[-1]),
                )

    @contextmanager
    def _at_our_share(self) -> Iterator[None]:
        """Leave the store to others for as long as this block takes, many times over."""
        began_at = trio.current_time()
        try:
            yield
        finally:
            took_s = trio.current_time() - began_at
            self._next_at = trio.current_time() + max(PAUSE_S, took_s * (1 / SHARE - 1))

    def _name_of(self, series: Subscription) -> tuple[str, str, str]:
        return self.registry.means.rest.venue.name, series.symbol, series.interval.value


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC).isoformat(timespec="seconds")
