"""At every moment: a candle that is due is stored, on its way, or known to be missing."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from klineagent.agent import Agent
from klineagent.kline import MINUTE_MS, Interval
from klineagent.proof.plan import ProofFailed
from klineagent.proof.witness import account_of, name_of
from klineagent.series.ledger import Ledger
from klineagent.storage.memory import MemoryStore
from klineagent.storage.writer import Writer

# An agent's clock is late by the way of a message, and its tasks by their turn.
MOST_LATE_MS = MINUTE_MS

SeriesKey = tuple[str, Interval]


@define(eq=False, kw_only=True)
class Audit:
    """Looks at the agent that lives again and again.

    A restart or a new connection makes an agent look up what it lacks, and so hides that something
    was overlooked before. Hence it is not enough to compare the stores in the end.
    """

    store: MemoryStore
    venue_name: str
    _audited_ms: dict[SeriesKey, int] = field(factory=dict, init=False)
    """Up to which open time each series was looked at."""
    _suspects: dict[SeriesKey, set[int]] = field(factory=dict, init=False)
    """Open times that count as closed and are not stored: they must be on their way."""

    def look(self, agent: Agent, now_ms: int) -> None:
        """Look at what fell due since the last look.

        Raises:
            ProofFailed: a deadline went by unnoticed, or a candle is taken for stored and is not.
        """
        nothing_is_on_its_way = _is_idle(agent.writer)
        for subscription in agent.registry.subscriptions():
            series = (subscription.symbol, subscription.interval)
            ledger = subscription.ledger
            if not ledger.has_begun:
                continue
            if ledger.deadline_ms + MOST_LATE_MS < now_ms:
                raise ProofFailed(
                    f"the deadline of {name_of(*series, ledger.horizon_ms)} went by unnoticed"
                )
            suspects = set(self._unaccounted(series, ledger))
            # Of what is older an agent that has just been started cannot know yet.
            overlooked = [each for each in suspects if each >= ledger.first_ms]
            if overlooked and nothing_is_on_its_way:
                raise ProofFailed(
                    f"{name_of(*series, min(overlooked))} is taken for stored and is not;"
                    f" the ledger {account_of(ledger)}"
                )
            self._suspects[series] = suspects

    def _unaccounted(self, series: SeriesKey, ledger: Ledger) -> Iterator[int]:
        """Opens that are neither stored, nor missing, nor absent, as far as `ledger` goes back."""
        for open_ms in self._suspects.get(series, ()):
            if not self._is_accounted(series, ledger, open_ms):
                yield open_ms
        open_ms = max(ledger.first_ms, self._audited_ms.get(series, 0))
        while open_ms < ledger.horizon_ms:
            if not self._is_accounted(series, ledger, open_ms):
                yield open_ms
            open_ms = ledger.interval.next_open(open_ms)
        self._audited_ms[series] = open_ms

    def _is_accounted(self, series: SeriesKey, ledger: Ledger, open_ms: int) -> bool:
        if open_ms in ledger.holes or open_ms in ledger.absences:
            return True
        symbol, interval = series
        stored = self.store.klines.get((self.venue_name, symbol, interval.value, open_ms))
        return stored is not None and stored.is_closed


def _is_idle(writer: Writer) -> bool:
    """Whether no row is between a feed and the store."""
    return (
        not writer.klines.statistics().current_buffer_used
        and not writer.rows_waiting
        and (writer.spool is None or writer.spool.is_empty)
    )
