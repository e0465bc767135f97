"""At every moment: a due candle is stored, on its way, or known to be missing, and not for long.

A candle that is known to be missing must be fetched within a bounded time, unless a fault keeps it
from that; and so must a row be stored that is on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import trio
from attrs import define, field, frozen

from klineagent.agent import Agent
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.clock.reckoning import BOUND_MS
from klineagent.proof.active_faults import EXPLAINS_GAPS, EXPLAINS_ROWS, NO_WEIGHT, Weather
from klineagent.proof.oracle import Witness, account_of, name_of
from klineagent.proof.plan import ProofFailed
from klineagent.series.ledger import Absent, Ledger, Urgency
from klineagent.series.subscription import Subscription
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.writing.writer import Writer
from klineagent.twin.interval import TwinInterval

# An agent's clock is late by the way of a message, and its tasks by their turn.
MOST_LATE_MS = MINUTE_MS
# No event moves that clock further ahead of what two witnesses have told.
MOST_EARLY_MS = 2 * BOUND_MS
# How long a candle may be known to be missing, and a row be on its way, with nothing to explain it.
HEALED_WITHIN_S = 30.0
STORED_WITHIN_S = 60.0

# Of the heaviest request for candles.
MOST_WEIGHT = 10

SeriesKey = tuple[str, Interval]


@frozen
class _Gap:
    """Open times that were missing at the last look, the end not included, and since when."""

    first_ms: int
    end_ms: int
    since: float


@define(eq=False, kw_only=True)
class Audit:
    """Looks at the agent that lives again and again.

    A restart or a new connection makes an agent look up what it lacks, and so hides that something
    was overlooked before. Hence it is not enough to compare the stores in the end.
    """

    store: MemoryStore
    venue_name: str
    weather: Weather
    witness: Witness
    _audited_ms: dict[SeriesKey, int] = field(factory=dict, init=False)
    """Up to which open time each series was looked at."""
    _suspects: dict[SeriesKey, dict[int, float]] = field(factory=dict, init=False)
    """Open times that count as closed and are not stored, and since when: they are on their way."""
    _gaps: dict[SeriesKey, list[_Gap]] = field(factory=dict, init=False)
    _absent: dict[SeriesKey, set[tuple[int, int]]] = field(factory=dict, init=False)
    """Spans that were said to have no candles at the last look, and have none."""

    def look(self, agent: Agent, started_at: float, now_ms: int) -> None:
        """Look at what fell due since the last look.

        Raises:
            ProofFailed: a deadline went by unnoticed, or a candle is due that has not opened, or
                is taken for stored and is not, or for absent and exists, or is on its way for long.
        """
        if found := agent.registry.context.tally.overlooked:
            raise ProofFailed(f"the agent's own audit found {found} candles it had overlooked")
        nothing_is_on_its_way = _is_idle(agent.writer)
        calm_since = max(started_at, self.weather.calm_since(EXPLAINS_ROWS))
        now = trio.current_time()
        for subscription in agent.registry.subscriptions():
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
                    f" the agent's clock is ahead; the ledger {account_of(ledger)}"
                )
            self._check_absences(series, ledger)
            before = self._suspects.get(series, {})
            suspects = {each: before.get(each, now) for each in self._unaccounted(series, ledger)}
            self._suspects[series] = suspects
            # Of what is older an agent that has just been started cannot know yet.
            overlooked = [each for each in suspects if each >= ledger.first_ms]
            if overlooked and nothing_is_on_its_way:
                raise ProofFailed(
                    f"{name_of(*series, min(overlooked))} is taken for stored and is not;"
                    f" the ledger {account_of(ledger)}"
                )
            for open_ms in overlooked:
                if now - max(calm_since, suspects[open_ms]) > STORED_WITHIN_S:
                    raise ProofFailed(
                        f"{name_of(*series, open_ms)} is on its way to the store for"
                        f" {now - suspects[open_ms]:.0f} s; {self.weather}"
                    )

    def time_gaps(self, agent: Agent, started_at: float) -> None:
        """Look at what is missing, and for how long it has been.

        Raises:
            ProofFailed: nothing explains that it still is.
        """
        budget = agent.registry.context.rest.budget
        if budget.used + MOST_WEIGHT > budget.limit:
            self.weather.note(NO_WEIGHT)
        calm_since = max(started_at, self.weather.calm_since(EXPLAINS_GAPS))
        before, self._gaps, now = self._gaps, {}, trio.current_time()
        for subscription in agent.registry.subscriptions():
            if not subscription.ledger.gaps:
                continue
            series = (subscription.symbol, subscription.interval)
            gaps = [
                _Gap(gap.first_ms, gap.end_ms, _known_since(gap.first_ms, before.get(series, ())))
                for gap in subscription.ledger.gaps
                # That there is none takes two answers a minute apart, also after a restart.
                if gap.mark.urgency is not Urgency.HISTORY and not gap.mark.may_not_exist
            ]
            self._gaps[series] = gaps
            for gap in gaps:
                if now - max(calm_since, gap.since) > HEALED_WITHIN_S:
                    raise ProofFailed(self._told(subscription, gap))

    def _check_absences(self, series: SeriesKey, ledger: Ledger) -> None:
        """A candle that is said not to exist must not; nobody would ask for it before an hour."""
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
                if self.witness.exists(symbol, interval, open_ms):
                    raise ProofFailed(
                        f"{name_of(*series, open_ms)} exists, and is said not to;"
                        f" the ledger {account_of(ledger)}; {self.weather}"
                    )
                open_ms = interval.next_open(open_ms)

    def _told(self, subscription: Subscription, gap: _Gap) -> str:
        now = trio.current_time()
        name = name_of(subscription.symbol, subscription.interval, gap.first_ms)
        return (
            f"{name} has been missing for {now - gap.since:.0f} s, and nothing explains that;"
            f" tried: {subscription.attempts_at(gap.first_ms)} at {now:.0f};"
            f" the ledger {account_of(subscription.ledger)}; {self.weather}"
        )

    def _unaccounted(self, series: SeriesKey, ledger: Ledger) -> Iterator[int]:
        """Opens that are neither stored, nor missing, nor absent, as far as `ledger` goes back."""
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
        if open_ms in ledger.gaps or open_ms in ledger.absences:
            return True
        symbol, interval = series
        stored = self.store.klines.get((self.venue_name, symbol, interval.value, open_ms))
        return stored is not None and stored.is_closed


def _known_since(open_ms: int, before: Iterable[_Gap]) -> float:
    """Since when `open_ms` is missing, as far as it was missing at the last look."""
    return min(
        (gap.since for gap in before if gap.first_ms <= open_ms < gap.end_ms),
        default=trio.current_time(),
    )


def _is_idle(writer: Writer) -> bool:
    """Whether no row is between a feed and the store."""
    return (
        not writer.klines.statistics().current_buffer_used
        and not writer.rows_waiting
        and (writer.spool is None or writer.spool.is_empty)
    )
