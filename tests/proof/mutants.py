"""Mutants: agents with one defect each, which the proof must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import trio
from attrs import evolve

from klineagent.core import kline
from klineagent.core.interval import Interval
from klineagent.exchange import wire
from klineagent.exchange.budget import WeightBudget, WeightPool
from klineagent.exchange.clock.deadlines import Deadlines
from klineagent.exchange.clock.reckoning import Reckoning
from klineagent.exchange.rest import CandleAnswer, Page
from klineagent.series.backfill.attempts import Attempts
from klineagent.series.backfill.gap_file import GapSaver
from klineagent.series.backfill.pages import Evidence, Finding, Known
from klineagent.series.backfill.worker import Backfill
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Gap

_FAR_FUTURE_MS = 1 << 50


@contextmanager
def healing_off() -> Iterator[None]:
    """Find gaps but never fetch the missing candles."""

    async def rest(self: Backfill, gap: Gap) -> None:
        now = trio.current_time()
        before = self._attempts.get(gap.first_ms, Attempts(now))
        left = before.unsettled(now, is_urgent=True)
        self._attempts = {**self._attempts, gap.first_ms: left}
        await trio.lowlevel.checkpoint()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backfill, "_fill", rest)
        yield


@contextmanager
def deadlines_off() -> Iterator[None]:
    """Ignore deadlines: a lost closing event goes unnoticed while the stream is up."""

    async def never(_: Deadlines) -> None:
        await trio.sleep_forever()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deadlines, "run", never)
        yield


@contextmanager
def versions_reversed() -> Iterator[None]:
    """Reverse versions: the oldest state of a candle wins, and forming beats closed."""

    def version_of(event_time_ms: int, close_time_ms: int, *, is_closed: bool) -> int:
        del close_time_ms
        return (_FAR_FUTURE_MS - event_time_ms) << 1 | (not is_closed)

    with pytest.MonkeyPatch.context() as patch:
        for module in (kline, wire):
            patch.setattr(module, "version_of", version_of)
        yield


@contextmanager
def due_without_the_last() -> Iterator[None]:
    """Take the last of the candles that fall due together for closed."""
    with _forgetting(lambda ledger, _: ledger.interval.shifted(ledger.horizon_ms, -1)):
        yield


@contextmanager
def due_without_the_first() -> Iterator[None]:
    """Take the first of the candles that fall due together for closed."""
    with _forgetting(lambda _, horizon_ms: horizon_ms):
        yield


@contextmanager
def _forgetting(which: Callable[[Ledger, int], int]) -> Iterator[None]:
    """Leave out one candle whenever some fall due: `which`, from the ledger and its horizon."""
    fall_due = Ledger.fall_due

    def leave_one_out(self: Ledger, now_ms: int, *, stream_was_away: bool = False) -> bool:
        horizon_ms = self.horizon_ms
        if not fall_due(self, now_ms, stream_was_away=stream_was_away):
            return False
        open_ms = which(self, horizon_ms)
        self.gaps.clear(open_ms, self.interval.next_open(open_ms))
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "fall_due", leave_one_out)
        yield


@contextmanager
def newest_wins_over_closed() -> Iterator[None]:
    """Rank states of a candle by time alone, so that a forming one may beat a closed one."""

    def version_of(event_time_ms: int, close_time_ms: int, *, is_closed: bool) -> int:
        del close_time_ms
        return event_time_ms << 1 | is_closed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "version_of", version_of)
        yield


@contextmanager
def stale_wake_up() -> Iterator[None]:
    """Make requests that back off after a failure wait for the end of the minute."""

    async def until_next(self: WeightPool) -> None:
        await self.time.until(Interval.M1.next_open(self._minute_ms))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightPool, "_until_next", until_next)
        patch.setattr(WeightBudget, "end_backoff", lambda self: None)
        yield


@contextmanager
def one_answer_proves_absence() -> Iterator[None]:
    """Take a candle that one answer skips for absent, on any venue."""
    read = Evidence.read

    def skip(
        self: Evidence, first_ms: int, end_ms: int, after_s: float, at: float
    ) -> list[tuple[int, int]]:
        del self, after_s, at
        return [(first_ms, end_ms)]

    def believe(
        self: Evidence, page: Page, answer: CandleAnswer, known: Known, at: float
    ) -> Finding:
        return read(self, page, answer, evolve(known, has_every_candle=False), at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evidence, "_skip", skip)
        patch.setattr(Evidence, "read", believe)
        yield


@contextmanager
def clock_believes() -> Iterator[None]:
    """Set the clock to the latest time of any event."""

    def advance(self: Reckoning, time_ms: int, at: float) -> None:
        if time_ms > self.now_ms(at):
            self.confirm(time_ms, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reckoning, "advance", advance)
        patch.setattr(Reckoning, "allows", lambda self, time_ms, at: True)
        yield


@contextmanager
def gaps_forgotten() -> Iterator[None]:
    """Forget known gaps in a restart."""

    async def load(self: GapSaver) -> None:
        del self
        await trio.lowlevel.checkpoint()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GapSaver, "load", load)
        yield


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    mutant.__name__: mutant
    for mutant in (
        healing_off,
        deadlines_off,
        versions_reversed,
        due_without_the_last,
        due_without_the_first,
        newest_wins_over_closed,
        one_answer_proves_absence,
        stale_wake_up,
        clock_believes,
        gaps_forgotten,
    )
}
"""All mutants by name."""

STRUCK_BY: dict[str, tuple[str, ...]] = {
    "newest_wins_over_closed": ("late_forming",),
    "one_answer_proves_absence": ("losing_closings", "missing_klines"),
    "stale_wake_up": ("losing_closings", "offline"),
    "clock_believes": ("wrong_times", "losing_closings"),
    "gaps_forgotten": ("kill_while_healing",),
}
"""The faults that expose a mutant, for those that not every plan exposes."""
