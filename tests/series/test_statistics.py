"""Statistics of all series are computed at most once a second, with checkpoints."""

from __future__ import annotations

import trio
from attrs import define
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, SECOND_MS, Interval
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Missing, Urgency
from klineagent.series.statistics import AT_ONCE, CountedSeries, Statistics

START_MS = 1_769_904_000_000
GRACE_MS = 5 * SECOND_MS


@define
class OneSeries:
    """One series of a market."""

    symbol: str
    interval: Interval
    ledger: Ledger
    is_active: bool = True
    audited_ms: int | None = None


def _series(number: int, interval: Interval = Interval.M1) -> OneSeries:
    ledger = Ledger(interval, GRACE_MS)
    ledger.begin(START_MS)
    return OneSeries(f"SYM{number}", interval, ledger)


def _statistics(series: list[CountedSeries]) -> Statistics:
    time = ExchangeTime()
    time.confirm(START_MS + 10 * MINUTE_MS)
    return Statistics(subscriptions=lambda: series, time=time)


async def test_the_totals_are_those_of_the_ledgers(autojump_clock: MockClock) -> None:
    """Missing candles by urgency, the longest lag of each interval, and overdue series."""
    complete, idle, late, new = _series(0), _series(1, Interval.H1), _series(2), _series(3)
    idle.is_active = False
    late.ledger.fall_due(START_MS + 3 * MINUTE_MS + GRACE_MS)
    new.ledger.expect(START_MS - 7 * MINUTE_MS, START_MS, Missing(Urgency.HISTORY))
    totals = await _statistics([complete, idle, late, new]).totals()
    assert (totals.series, totals.active, totals.incomplete) == (4, 3, 2)
    assert totals.missing == {Urgency.MISSED: 3, Urgency.HISTORY: 7}
    assert totals.lag_ms == {Interval.M1: 10 * MINUTE_MS, Interval.H1: 0}
    assert totals.overdue == [(START_MS + MINUTE_MS + GRACE_MS, late)]


async def test_other_tasks_run_meanwhile(autojump_clock: MockClock) -> None:
    """After each thousand series."""
    statistics = _statistics([_series(number) for number in range(5 * AT_ONCE)])
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await statistics.totals()
        nursery.cancel_scope.cancel()
    assert turns >= 4


async def test_concurrent_callers_share_one_computation(autojump_clock: MockClock) -> None:
    """Callers within a second get the same totals, later ones new totals."""
    series: list[CountedSeries] = [_series(0)]
    statistics = _statistics(series)
    before = await statistics.totals()
    series.append(_series(1))
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(statistics.totals)
    assert await statistics.totals() is before
    await trio.sleep(1)
    assert (await statistics.totals()).series == 2
