"""What one proof runs, and what came of it."""

from __future__ import annotations

from collections import Counter

from attrs import field, frozen

from klineagent.core.errors import KlineagentError


class ProofFailed(KlineagentError):
    """Something that must never be was seen: a candle missing, wrong or doubled, a limit broken."""


@frozen(kw_only=True)
class Plan:
    """One run: everything in it follows from these values."""

    seed: int
    days: float
    symbols: int
    kinds: tuple[str, ...]
    """Names of the faults that may strike; see `storm.KINDS`."""
    pause_s: float = 5 * 3600.0
    """Time between two faults of one kind, on average."""

    @property
    def is_forgetful(self) -> bool:
        """Whether agents look back so little that they must remember what they lacked."""
        return self.seed % 4 == 1

    @property
    def history(self) -> int:
        """Candles that agents fetch from before they began."""
        return 20 if self.is_forgetful else 500

    @property
    def lookback_s(self) -> int:
        """How far back agents look for what their store lacks."""
        return 900 if self.is_forgetful else 86_400


@frozen(kw_only=True)
class Report:
    """What was seen in one run, or in several together."""

    runs: int = 0
    candles: int = 0
    """Candles compared with the truth, each of them in every field."""
    lives: int = 0
    """How often an agent was started."""
    injected: Counter[str] = field(factory=Counter)
    """Faults by kind."""
    repairs: Counter[str] = field(factory=Counter)
    """What agents did about them."""
    limits: Counter[str] = field(factory=Counter)
    """Runs in which each limit of the exchange was watched, and not broken."""
    absent: Counter[str] = field(factory=Counter)
    """Candles that are not there, by the reason the agent gives."""
    digest: str = ""
    """Of the history of one run: the same for the same plan."""

    def with_run(self, run: Report) -> Report:
        """Both together."""
        return Report(
            runs=self.runs + run.runs,
            candles=self.candles + run.candles,
            lives=self.lives + run.lives,
            injected=self.injected + run.injected,
            repairs=self.repairs + run.repairs,
            limits=self.limits + run.limits,
            absent=self.absent + run.absent,
        )
