"""The plan of a proof's run, and its report."""

from __future__ import annotations

from collections import Counter

from attrs import field, frozen

from klineagent.core.errors import KlineagentError

# As many as `serve` fetches by default.
USUAL_DEPTH = 500
# Most runs of one venue are of the one that most people record.
_USUAL = ("usdm", "usdm", "usdm", "spot", "coinm")


class ProofFailed(KlineagentError):
    """The agent broke a promise: a candle is missing, wrong or doubled, or a limit was exceeded."""


@frozen(kw_only=True)
class ProofPlan:
    """One run; everything in it follows from these values."""

    seed: int
    days: float
    symbols: int
    """Symbols of each venue."""
    kinds: tuple[str, ...]
    """Kinds of faults that are injected; see `schedule.KINDS`."""
    depth: int = USUAL_DEPTH
    """Candles from before their start that agents fetch, unless they have a short memory."""
    pause_s: float = 5 * 3600.0
    """Mean time between two faults of one kind."""
    venues: tuple[str, ...] = ()
    """The venues that agents record; none for one that follows from the seed."""

    @property
    def venue_names(self) -> tuple[str, ...]:
        """The venues that agents record, of which the first is their default."""
        return self.venues or (_USUAL[self.seed % len(_USUAL)],)

    @property
    def has_short_memory(self) -> bool:
        """Whether agents look back so little that they depend on their file of known gaps."""
        return self.seed % 4 == 1

    @property
    def history(self) -> int:
        """Candles that agents fetch from before their start."""
        return 20 if self.has_short_memory else self.depth

    @property
    def listed_days(self) -> int:
        """Days before the start at which all symbols were listed."""
        return 1 if self.depth <= USUAL_DEPTH else 3

    @property
    def lookback_s(self) -> int:
        """How far back agents look for candles missing in their store."""
        return 900 if self.has_short_memory else 86_400


@frozen(kw_only=True)
class ProofReport:
    """The result of one run, or the sum of several."""

    runs: int = 0
    candles: int = 0
    """Candles compared in every field."""
    by_venue: Counter[str] = field(factory=Counter)
    """The same by venue."""
    in_time: Counter[str] = field(factory=Counter)
    """Candles of each venue that were stored in time while only another one failed."""
    starts: int = 0
    """How often an agent was started."""
    injected: Counter[str] = field(factory=Counter)
    """Faults by kind."""
    repairs: Counter[str] = field(factory=Counter)
    """What agents did about them."""
    limits: Counter[str] = field(factory=Counter)
    """Runs in which each limit of the exchange was watched and kept."""
    absent: Counter[str] = field(factory=Counter)
    """Candles that are absent, by the ledger's reason."""
    reads: Counter[str] = field(factory=Counter)
    """Answers to programs that read, by what became of them; a wrong one ends the run."""
    heard: Counter[str] = field(factory=Counter)
    """Events told to programs that listen to streams; a wrong or missing one ends the run."""
    digest: str = ""
    """Digest of one run's stored rows: the same for the same plan."""

    def with_run(self, run: ProofReport) -> ProofReport:
        """The sum of both."""
        return ProofReport(
            runs=self.runs + run.runs,
            candles=self.candles + run.candles,
            by_venue=self.by_venue + run.by_venue,
            in_time=self.in_time + run.in_time,
            starts=self.starts + run.starts,
            injected=self.injected + run.injected,
            repairs=self.repairs + run.repairs,
            limits=self.limits + run.limits,
            absent=self.absent + run.absent,
            reads=self.reads + run.reads,
            heard=self.heard + run.heard,
        )
