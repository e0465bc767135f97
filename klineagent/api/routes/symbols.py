"""Adding symbols, each at all intervals or not at all, and removing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio
from attrs import frozen
from msgspec import UNSET

from klineagent.api.models.contract import Summary, SymbolCounts
from klineagent.api.subscriptions import Subscriptions, not_confirmed
from klineagent.core.errors import NotRunning, RequestError
from klineagent.core.interval import Interval

# Managers give a whole call 30 s; what has failed by then is undone, and the answer is out.
SYMBOLS_WITHIN_S = 24
UNDO_WITHIN_S = 5
# Each interval of a symbol takes a task until the exchange has confirmed it. A market of 9,000
# streams at once would leave 30 MB behind, and keep everybody else waiting for two seconds.
SYMBOLS_AT_ONCE = 64

log = structlog.get_logger()


@frozen(kw_only=True)
class SymbolResult:
    """What became of one symbol."""

    symbol: str
    succeeded: int
    """Intervals that run now and did not before; or the other way round."""
    skipped: int
    """Intervals of which that was so already."""
    total: int
    failure: RequestError | None = None

    @property
    def failed(self) -> int:
        """Intervals that are not as it was asked for."""
        return self.total - self.succeeded - self.skipped

    def counts(self) -> SymbolCounts:
        """The result as the contract has it."""
        return SymbolCounts(
            symbol=self.symbol,
            success_count=self.succeeded,
            failed_count=self.failed,
            skipped_count=self.skipped,
            total_count=self.total,
            error=UNSET if self.failure is None else str(self.failure),
        )


async def add_symbols(
    subscriptions: Subscriptions, symbols: Sequence[str], intervals: Sequence[Interval]
) -> list[SymbolResult]:
    """Subscribe all `symbols` at all `intervals`, many at a time.

    A symbol of which one interval cannot be added loses those this call has started. So does one
    that is not complete when the caller is cancelled.

    Returns:
        One result per symbol, in order.
    """
    deadline = trio.current_time() + SYMBOLS_WITHIN_S

    async def add(symbol: str) -> SymbolResult:
        return await _add_symbol(subscriptions, symbol, intervals, deadline)

    return await _for_each(symbols, add)


async def remove_symbols(
    subscriptions: Subscriptions, symbols: Sequence[str]
) -> list[SymbolResult]:
    """Remove `symbols` at all intervals at which they run, many at a time.

    Returns:
        One result per symbol, in order.
    """
    deadline = trio.current_time() + SYMBOLS_WITHIN_S

    async def remove(symbol: str) -> SymbolResult:
        return await _remove_symbol(subscriptions, symbol, deadline)

    return await _for_each(symbols, remove)


async def _for_each(
    symbols: Sequence[str], work: Callable[[str], Awaitable[SymbolResult]]
) -> list[SymbolResult]:
    results: dict[str, SymbolResult] = {}
    places = trio.CapacityLimiter(SYMBOLS_AT_ONCE)

    async def run(symbol: str) -> None:
        async with places:
            results[symbol] = await work(symbol)

    async with trio.open_nursery() as nursery:
        for symbol in symbols:
            nursery.start_soon(run, symbol)
    return [results[symbol] for symbol in symbols]


async def _add_symbol(
    subscriptions: Subscriptions, symbol: str, intervals: Sequence[Interval], deadline: float
) -> SymbolResult:
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
            # Another call that found one of these running has been told so, and loses it here.
            with trio.move_on_after(UNDO_WITHIN_S, shield=True):
                await _undo(subscriptions, symbol, started)
    if complete:
        return SymbolResult(
            symbol=symbol, succeeded=len(started), skipped=len(skipped), total=len(intervals)
        )
    if patience.cancelled_caught:
        failures.append(not_confirmed(subscriptions, SYMBOLS_WITHIN_S))
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
            skipped.append(interval)  # somebody else has just removed it
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
        failure=not_confirmed(subscriptions, SYMBOLS_WITHIN_S) if late else None,
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
    """The contract's `summary` of a call."""
    failed = [result.symbol for result in results if result.failure]
    return Summary(
        total_symbols=len(results),
        success_count=len(results) - len(failed),
        failed_count=len(failed),
        failed_symbols=failed,
        duration_seconds=round(duration_s, 3),
    )
