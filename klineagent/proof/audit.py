"""Checks a running agent: every due candle is stored, on its way, or known to be missing.

Unless a fault explains a delay, a missing candle must be fetched and a row on its way must be
stored within a bounded time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import trio
from attrs import define, field, frozen

from klineagent.agent import Agent
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.clock.reckoning import BOUND_MS
from klineagent.proof.active_faults import EXPLAINS_GAPS, EXPLAINS_ROWS, NO_WEIGHT, ActiveFaults
from klineagent.proof.oracle import Oracle, describe, name_of
from klineagent.proof.plan import ProofFailed
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absent, Urgency
from klineagent.series.registry import Registry
from klineagent.series.subscription import Subscription
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.writing.writer import Writer
from klineagent.twin.interval import TwinInterval

# An agent's clock is late by a message's transit, and its tasks by the scheduler.
MOST_LATE_MS = MINUTE_MS
# No event moves that clock further ahead of the time that two sources agree on.
MOST_EARLY_MS = 2 * BOUND_MS
# How long a candle may be missing, and a row be on its way, without a fault that explains it.
HEALED_WITHIN_S = 30.0
STORED_WITHIN_S = 60.0
# How long after its close a candle may be on its way while nothing fails: its event takes 0.3 s,
# its batch a second.
STORED_WHEN_CALM_MS = 5_000

# Weight of the heaviest klines request.
MOST_WEIGHT = 10

SeriesKey = tuple[str, Interval]


@frozen
class _Gap:
    """Open times in [first, end) that were missing at the last look, and since when."""

    first_ms: int
    end_ms: int
    since: float


@define(eq=False, kw_only=True)
class ProofAudit:
    """Looks at one venue of the running agent at intervals.

    Comparing the store in the end would not do: a restart or a new connection makes an agent look
    for missing candles, which hides that it had overlooked one before.
    """

    store: MemoryStore
    venue_name: str
    active_faults: ActiveFaults
    oracle: Oracle
    _audited_ms: dict[SeriesKey, int] = field(factory=dict, init=False)
    """By series: the open time up to which it was looked at."""
    _suspects: dict[SeriesKey, dict[int, float]] = field(factory=dict, init=False)
    """By series: open times that count as closed but are not stored (on their way), since when."""
    _gaps: dict[SeriesKey, list[_Gap]] = field(factory=dict, init=False)
    _absent: dict[SeriesKey, set[tuple[int, int]]] = field(factory=dict, init=False)
    """Spans that the ledger called absent at the last look, already checked."""
    in_time: int = field(default=0, init=False)
    """Candles that were stored in time while only another venue failed."""
    _arrived_ms: dict[SeriesKey, int] = field(factory=dict, init=False)
    """By series: the open time up to which that was checked."""

    def look(self, agent: Agent, started_at: float, now_ms: int) -> None:
        """Check the candles that fell due since the last look.

        Raises:
            ProofFailed: a deadline passed unnoticed, or a candle is due before it opened, counts
                as stored and is not, counts as absent and exists, or is on its way for too long.
        """
        registry = self._registry(agent)
        if found := registry.context.tally.overlooked:
            raise ProofFailed(f"the agent's own audit found {found} candles it had overlooked")
        nothing_is_on_its_way = _is_idle(agent.writer)
        clear_since = max(started_at, self.active_faults.clear_since(EXPLAINS_ROWS))
        now = trio.current_time()
        for subscription in registry.subscriptions():
            series = (subscription.symbol, subscription.interval)
            ledger = subscription.ledger
            if not ledger.has_begun:
                continue
            if ledger.deadline_ms + MOST_LATE_MS < now_ms:
                raise ProofFailed(
                    f"the deadline of {name_of(*series, ledger.horizon_ms)} went by unnoticed"
                )
            if ledger.horizon_ms > now_ms + MOST_EARLY_MS:
                raise ProofFailed(
                    f"{name_of(*series, ledger.horizon_ms)} is awaited and has not opened:"
                    f" the agent's clock is ahead; the ledger {describe(ledger)}"
                )
            self._check_absences(series, ledger)
            before = self._suspects.get(series, {})
            suspects = {each: before.get(each, now) for each in self._unaccounted(series, ledger)}
            self._suspects[series] = suspects
            # An agent that has just started cannot know about older candles yet.
            overlooked = [each for each in suspects if each >= ledger.first_ms]
            if overlooked and nothing_is_on_its_way:
                raise ProofFailed(
                    f"{name_of(*series, min(overlooked))} is taken for stored and is not;"
                    f" the ledger {describe(ledger)}"
                )
            for open_ms in overlooked:
                if now - max(clear_since, suspects[open_ms]) > STORED_WITHIN_S:
                    raise ProofFailed(
                        f"{name_of(*series, open_ms)} is on its way to the store for"
                        f" {now - suspects[open_ms]:.0f} s; {self.active_faults}"
                    )

    def time_gaps(self, agent: Agent, started_at: float) -> None:
        """Check for how long candles have been missing.

        Raises:
            ProofFailed: one is missing for too long without a fault that explains it.
        """
        registry = self._registry(agent)
        spending = registry.context.rest.budget.spending()
        if spending.used + MOST_WEIGHT > spending.limit:
            self.active_faults.note(NO_WEIGHT)
        clear_since = max(started_at, self.active_faults.clear_since(EXPLAINS_GAPS))
        before, self._gaps, now = self._gaps, {}, trio.current_time()
        for subscription in registry.subscriptions():
            if not subscription.ledger.gaps:
                continue
            series = (subscription.symbol, subscription.interval)
            gaps = [
                _Gap(gap.first_ms, gap.end_ms, _known_since(gap.first_ms, before.get(series, ())))
                for gap in subscription.ledger.gaps
                # An absence takes two answers a minute apart, also after a restart.
                if gap.mark.urgency is not Urgency.HISTORY and not gap.mark.may_not_exist
            ]
            self._gaps[series] = gaps
            for gap in gaps:
                if now - max(clear_since, gap.since) > HEALED_WITHIN_S:
                    raise ProofFailed(self._overdue(subscription, gap))

    def time_arrivals(self, agent: Agent, calm_since_ms: int, now_ms: int) -> None:
        """Check that candles that closed since `calm_since_ms`, while nothing failed, are stored.

        Raises:
            ProofFailed: one is not, though it closed a while ago.
        """
        until_ms = now_ms - STORED_WHEN_CALM_MS
        for subscription in self._registry(agent).subscriptions():
            series = (subscription.symbol, subscription.interval)
            interval = TwinInterval(subscription.interval.value)
            # The first to check is the one that was open when it became calm, or at the last look.
            open_ms = interval.open_at(max(calm_since_ms, self._arrived_ms.get(series, 0)))
            while interval.next_open(open_ms) <= until_ms:
                if not self._is_stored(series, open_ms):
                    raise ProofFailed(
                        f"{name_of(*series, open_ms)} is late, though only another venue fails;"
                        f" the ledger {describe(subscription.ledger)}; {self.active_faults}"
                    )
                self.in_time += 1
                open_ms = interval.next_open(open_ms)
            self._arrived_ms[series] = open_ms

    def _registry(self, agent: Agent) -> Registry:
        """The subscriptions of the venue, which the agent was configured to record."""
        running = agent.venues.get(self.venue_name)
        if running is None:
            raise ProofFailed(f"{self.venue_name} is not recorded")
        return running.registry

    def _check_absences(self, series: SeriesKey, ledger: Ledger) -> None:
        """Check that candles called absent do not exist; the agent asks again only in an hour."""
        symbol, interval = series[0], TwinInterval(series[1].value)
        before = self._absent.get(series, set())
        absences = {
            (each.first_ms, each.end_ms)
            for each in ledger.absences
            if each.mark.reason is not Absent.REFUSED
        }
        self._absent[series] = absences
        for first_ms, end_ms in absences - before:
            open_ms = first_ms
            while open_ms < end_ms:
                if self.oracle.exists(symbol, interval, open_ms):
                    raise ProofFailed(
                        f"{name_of(*series, open_ms)} exists, but the ledger calls it absent;"
                        f" the ledger {describe(ledger)}; {self.active_faults}"
                    )
                open_ms = interval.next_open(open_ms)

    def _overdue(self, subscription: Subscription, gap: _Gap) -> str:
        now = trio.current_time()
        name = name_of(subscription.symbol, subscription.interval, gap.first_ms)
        return (
            f"{name} has been missing for {now - gap.since:.0f} s, and nothing explains that;"
            f" tried: {subscription.attempts_at(gap.first_ms)} at {now:.0f};"
            f" the ledger {describe(subscription.ledger)}; {self.active_faults}"
        )

    def _unaccounted(self, series: SeriesKey, ledger: Ledger) -> Iterator[int]:
        """Yield open times since `ledger.first_ms` neither stored, nor missing, nor absent."""
        for open_ms in self._suspects.get(series, ()):
            if not self._is_accounted(series, ledger, open_ms):
                yield open_ms
        interval = TwinInterval(ledger.interval.value)
        open_ms = max(ledger.first_ms, self._audited_ms.get(series, 0))
        while open_ms < ledger.horizon_ms:
            if not self._is_accounted(series, ledger, open_ms):
                yield open_ms
            open_ms = interval.next_open(open_ms)
        self._audited_ms[series] = open_ms

    def _is_accounted(self, series: SeriesKey, ledger: Ledger, open_ms: int) -> bool:
        is_known = open_ms in ledger.gaps or open_ms in ledger.absences
        return is_known or self._is_stored(series, open_ms)

    def _is_stored(self, series: SeriesKey, open_ms: int) -> bool:
        symbol, interval = series
        stored = self.store.klines.get((self.venue_name, symbol, interval.value, open_ms))
        return stored is not None and stored.is_closed


def _known_since(open_ms: int, before: Iterable[_Gap]) -> float:
    """Since when `open_ms` is missing: from an earlier look, or from now."""
    return min(
        (gap.since for gap in before if gap.first_ms <= open_ms < gap.end_ms),
        default=trio.current_time(),
    )


def _is_idle(writer: Writer) -> bool:
    """Whether no row is between a connection and the store."""
    return (
        not writer.klines.statistics().current_buffer_used
        and not writer.rows_waiting
        and (writer.spool is None or writer.spool.is_empty)
    )
