"""Adds symbols, each at all intervals or not at all, and removes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import structlog
import trio
from attrs import frozen
from msgspec import UNSET

from klineagent.api.models.contract import Summary, SymbolCounts, venue_beside
from klineagent.api.subscriptions import Subscriptions, not_confirmed
from klineagent.core.errors import InvalidRequest, NotRunning, RequestError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue, split_name

# Fleet managers allow 30 s for a call: by then failures are undone and the answer is sent.
SYMBOLS_WITHIN_S = 24
UNDO_WITHIN_S = 5
# Each interval of a symbol takes a task until the exchange has confirmed it. 9,000 streams at once
# would take 30 MB, and block other tasks for two seconds.
SYMBOLS_AT_ONCE = 128

log = structlog.get_logger()


@frozen(kw_only=True)
class SymbolResult:
    """The result for one symbol."""

    symbol: str
    succeeded: int
    """Intervals added, or removed, by this call."""
    skipped: int
    """Intervals that were running, or not running, already."""
    total: int
    failure: RequestError | None = None

    @property
    def failed(self) -> int:
        """How many intervals failed."""
        return self.total - self.succeeded - self.skipped

    def counts(self) -> SymbolCounts:
        """Convert the result to the API's model."""
        return SymbolCounts(
            symbol=self.symbol,
            venue=venue_beside(self.symbol),
            success_count=self.succeeded,
            failed_count=self.failed,
            skipped_count=self.skipped,
            total_count=self.total,
            error=UNSET if self.failure is None else str(self.failure),
        )


async def add_symbols(
    subscriptions: Subscriptions,
    symbols: Sequence[str],
    intervals: Sequence[Interval],
    default: Venue,
) -> list[SymbolResult]:
    """Subscribe to all `symbols`, each at those of `intervals` that its venue has, many at a time.

    Symbols without a venue are of the `default` one. A symbol whose venue has none fails.
    If one interval of a symbol cannot be added, or the caller is cancelled before all are, those
    that this call has started are removed again.

    Returns:
        One result per symbol, in order.
    """
    return await _for_each(symbols, partial(_add_symbol, subscriptions, intervals, default))


async def remove_symbols(
    subscriptions: Subscriptions, symbols: Sequence[str]
) -> list[SymbolResult]:
    """Remove `symbols` at all intervals at which they run, many at a time.

    Returns:
        One result per symbol, in order.
    """
    return await _for_each(symbols, partial(_remove_symbol, subscriptions))


async def _for_each(
    symbols: Iterable[str], work: Callable[[str, float], Awaitable[SymbolResult]]
) -> list[SymbolResult]:
    deadline = trio.current_time() + SYMBOLS_WITHIN_S
    results: dict[str, SymbolResult] = {}
    limiter = trio.CapacityLimiter(SYMBOLS_AT_ONCE)

    async def run(symbol: str) -> None:
        async with limiter:
            results[symbol] = await work(symbol, deadline)

    async with trio.open_nursery() as nursery:
        for symbol in symbols:
            nursery.start_soon(run, symbol)
    return [results[symbol] for symbol in symbols]


async def _add_symbol(
    subscriptions: Subscriptions,
    configured: Sequence[Interval],
    default: Venue,
    symbol: str,
    deadline: float,
) -> SymbolResult:
    venue, _ = split_name(symbol, default)
    if not (intervals := [each for each in configured if each in venue.intervals]):
        wanted = ",".join(map(str, configured))
        none = InvalidRequest(f"intervals: {venue.name} has none of {wanted}")
        return SymbolResult(
            symbol=symbol, succeeded=0, skipped=0, total=len(configured), failure=none
        )
    started: list[Interval] = []
    skipped: list[Interval] = []
    failures: list[RequestError] = []

    async def add(interval: Interval) -> None:
        try:
            is_new = await subscriptions.add(symbol, interval)
        except RequestError as error:
            failures.append(error)
        else:
            (started if is_new else skipped).append(interval)

    complete = False
    try:
        with trio.move_on_at(deadline) as patience:
            async with trio.open_nursery() as nursery:
                for interval in intervals:
                    nursery.start_soon(add, interval)
        complete = len(started) + len(skipped) == len(intervals)
    finally:
        if not complete:
            # Another call may have found one of these running and reported so; it is removed
            # nevertheless.
            with trio.move_on_after(UNDO_WITHIN_S, shield=True):
                await _undo(subscriptions, symbol, started)
    if complete:
        return SymbolResult(
            symbol=symbol, succeeded=len(started), skipped=len(skipped), total=len(intervals)
        )
    if patience.cancelled_caught:
        failures.append(not_confirmed(SYMBOLS_WITHIN_S, subscriptions.obstacle(symbol)))
    return SymbolResult(
        symbol=symbol, succeeded=0, skipped=len(skipped), total=len(intervals), failure=failures[0]
    )


async def _remove_symbol(
    subscriptions: Subscriptions, symbol: str, deadline: float
) -> SymbolResult:
    if not (intervals := subscriptions.intervals(symbol)):
        return SymbolResult(
            symbol=symbol,
            succeeded=0,
            skipped=0,
            total=0,
            failure=NotRunning(f"{symbol} does not run"),
        )
    removed: list[Interval] = []
    skipped: list[Interval] = []

    async def remove(interval: Interval) -> None:
        try:
            await subscriptions.remove(symbol, interval)
        except NotRunning:
            skipped.append(interval)  # another call has just removed it
        else:
            removed.append(interval)

    with trio.move_on_at(deadline) as patience:
        async with trio.open_nursery() as nursery:
            for interval in intervals:
                nursery.start_soon(remove, interval)
    late = patience.cancelled_caught
    return SymbolResult(
        symbol=symbol,
        succeeded=len(removed),
        skipped=len(skipped),
        total=len(intervals),
        failure=not_confirmed(SYMBOLS_WITHIN_S, subscriptions.obstacle(symbol)) if late else None,
    )


async def _undo(subscriptions: Subscriptions, symbol: str, intervals: Sequence[Interval]) -> None:
    async def remove(interval: Interval) -> None:
        try:
            await subscriptions.remove(symbol, interval)
        except RequestError as error:
            log.warning("undo_failed", symbol=symbol, interval=str(interval), error=str(error))

    async with trio.open_nursery() as nursery:
        for interval in intervals:
            nursery.start_soon(remove, interval)


def summary(results: Sequence[SymbolResult], duration_s: float) -> Summary:
    """Make the `summary` of a call."""
    failed = [result.symbol for result in results if result.failure]
    return Summary(
        total_symbols=len(results),
        success_count=len(results) - len(failed),
        failed_count=len(failed),
        failed_symbols=failed,
        duration_seconds=round(duration_s, 3),
    )
