"""The ledger of a series: which candles are closed, missing, or confirmed absent. Pure.

Every candle from the ledger's first open time to its horizon is closed, unless it lies in a gap (it
is missing and must be fetched) or in a confirmed absence (no such candle will come). The horizon is
the first candle that is not due yet; its closing event or its deadline moves the horizon on. Closed
candles are not listed, so the ledger grows with gaps and not with candles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from attrs import define, evolve, field

from klineagent.core.interval import Interval
from klineagent.series.losses import NO_LOSSES, LossRecord
from klineagent.series.marks import Absence, Absent, Gap, Missing, Urgency
from klineagent.series.spans import Span, Spans

_NONE: frozenset[int] = frozenset()


@define(eq=False)
class MissingCounts:
    """Counts missing candles by their outcome, in all ledgers that share the counts.

    A candle that was found missing was healed or given up since, or is still missing.
    """

    found: Counter[Urgency] = field(factory=Counter, init=False)
    healed: Counter[Urgency] = field(factory=Counter, init=False)
    """Candles that came after they were missing, by stream or by REST."""
    given_up: Counter[Absent] = field(factory=Counter, init=False)
    disproved: int = field(default=0, init=False)
    """Candles that were confirmed absent and then existed."""
    overlooked: int = field(default=0, init=False)
    """Candles that counted as closed and were not stored, as the audit found."""


@define(eq=False)
class Ledger:
    """Tracks the candles of one series from its beginning on, and of history that is wanted.

    All times are open times in milliseconds by the exchange's clock, unless they say otherwise.
    """

    interval: Interval
    grace_ms: int
    """How long after a candle's close its closing event may come."""
    tally: MissingCounts = field(factory=MissingCounts)
    began_ms: int = field(default=0, init=False)
    """The open time with which the ledger began: older candles closed before the series ran."""
    first_ms: int = field(default=0, init=False)
    """The oldest open time that the ledger covers."""
    horizon_ms: int = field(default=0, init=False)
    """The oldest open time that is not due yet; 0 before the ledger begins."""
    gaps: Spans[Missing] = field(factory=Spans, init=False)
    absences: Spans[Absence] = field(factory=Spans, init=False)
    """The confirmed absences; none overlaps a gap."""
    losses: LossRecord = field(default=NO_LOSSES, init=False)
    """Candles that were lost while the series ran, and what became of them; history and what
    closed while no agent ran are gaps, but were not lost. The newest ones only."""
    healed: int = field(default=0, init=False)
    """The number of candles that came after they were missing."""
    # Closed candles at or after the horizon. A candle falls due within the grace after its close,
    # so these are the candles of one grace at most: one, or five of one second.
    _early: frozenset[int] = field(default=_NONE, init=False)

    @property
    def has_begun(self) -> bool:
        """Whether the ledger has begun to expect candles."""
        return self.horizon_ms > 0

    @property
    def deadline_ms(self) -> int:
        """When the candle at the horizon falls due: its close plus the grace."""
        return self.interval.next_open(self.horizon_ms) + self.grace_ms

    @property
    def missing(self) -> int:
        """The number of missing candles."""
        return self.count(self.gaps)

    @property
    def absent(self) -> int:
        """The number of candles in confirmed absences."""
        return self.count(self.absences)

    @property
    def newest_early_ms(self) -> int | None:
        """The newest candle that closed before an older one; None if there is none."""
        return max(self._early, default=None)

    def count(self, spans: Iterable[Span[Any]]) -> int:
        """Count the candles that open in `spans`."""
        return sum(self.interval.count(span.first_ms, span.end_ms) for span in spans)

    def has_closed(self, open_ms: int) -> bool:
        """Whether the candle has closed and its row was not lost since."""
        if open_ms >= self.horizon_ms:
            return open_ms in self._early
        return (
            open_ms >= self.first_ms and open_ms not in self.gaps and open_ms not in self.absences
        )

    def was_handed_on(self, open_ms: int) -> bool:
        """Whether the store has, or will get, the exchange's candle of that open time."""
        absence = self.absences.at(open_ms)
        is_off_grid = absence is not None and absence.mark.reason is Absent.OFF_GRID
        return is_off_grid or self.has_closed(open_ms)

    def begin(self, now_ms: int) -> None:
        """Expect every candle from the one that is open at `now_ms` on."""
        self.began_ms = self.first_ms = self.horizon_ms = self.interval.open_at(now_ms)

    def reach_back(self, first_ms: int) -> None:
        """Cover candles from `first_ms` on: they are stored, unless `expect` marks them missing."""
        self.first_ms = min(self.first_ms, first_ms)

    def close(self, open_ms: int, *, now_ms: int) -> bool:
        """Note that a closed candle has come at `now_ms`; return whether it is new."""
        if open_ms == self.horizon_ms:
            self._advance()
            return True
        if not self._is_on_grid(open_ms):
            return False
        if open_ms < self.horizon_ms:
            return self._fill(open_ms, now_ms)
        is_new = open_ms not in self._early
        self._early |= {open_ms}
        return is_new

    def fall_due(self, now_ms: int, *, stream_was_away: bool = False) -> bool:
        """Mark candles missing that should have closed by `now_ms`; return whether any were.

        If the stream was interrupted their closing events are lost, so no grace applies.
        """
        grace_ms, urgency = self.grace_ms, Urgency.MISSED
        if stream_was_away:
            grace_ms, urgency = 0, Urgency.FRESH
        due_until_ms = self.interval.open_at(now_ms - grace_ms)
        found = False
        while self.horizon_ms < due_until_ms:
            end_ms = min([due_until_ms, *self._early])
            if self.horizon_ms < end_ms:
                self._miss(self.horizon_ms, end_ms, Missing(urgency), now_ms)
                self.horizon_ms = end_ms
                found = True
            if end_ms in self._early:
                self._advance()
        return found

    def rewind(self, now_ms: int) -> None:
        """Set the horizon back, because the clock was ahead and it is `now_ms`.

        Absences are looked at no later than if they were confirmed now.
        """
        for each in [*self.absences]:
            self.absences.mark(each.first_ms, each.end_ms, each.mark.rewound(now_ms))
        open_ms = self.interval.open_at(now_ms)
        if open_ms >= self.horizon_ms:
            return
        for gap in self.gaps.clear(open_ms, self.horizon_ms):
            self.tally.found[gap.mark.urgency] -= self.count([gap])
        self.absences.clear(open_ms, self.horizon_ms)
        self.losses.forget(open_ms, self.horizon_ms)
        self.horizon_ms = open_ms
        self.began_ms, self.first_ms = min(self.began_ms, open_ms), min(self.first_ms, open_ms)

    def expect(self, first_ms: int, end_ms: int, mark: Missing) -> None:
        """Mark candles missing that opened in [`first_ms`, `end_ms`), before the ledger began.

        They were not lost by this run, whatever their urgency.
        """
        end_ms = min(end_ms, self.horizon_ms)
        if first_ms < end_ms:
            self.reach_back(first_ms)
            self._miss(first_ms, end_ms, mark, None)

    def expect_none(self, first_ms: int, end_ms: int, absence: Absence) -> None:
        """Mark [`first_ms`, `end_ms`) absent, as an earlier run had confirmed."""
        end_ms = min(end_ms, self.horizon_ms)
        if first_ms < end_ms:
            self.reach_back(first_ms)
            self.gaps.clear(first_ms, end_ms)
            self.losses.forget(first_ms, end_ms)
            self.absences.mark(first_ms, end_ms, absence)

    def reopen(self, open_ms: int, *, now_ms: int, above_version: int = 0) -> None:
        """Mark a closed candle missing: its row did not reach the store, or is wrong there.

        A candle that opened off the grid is fetched with its slot. See `Missing.above_version`.
        """
        open_ms = self.interval.open_at(open_ms)
        if open_ms >= self.horizon_ms:
            self._early = self._early - {open_ms} or _NONE
        elif open_ms >= self.first_ms:
            end_ms = self.interval.next_open(open_ms)
            mark = Missing(Urgency.FRESH, above_version=above_version)
            self._miss(open_ms, end_ms, mark, now_ms)

    def set_aside(self, open_ms: int, *, now_ms: int) -> None:
        """Give up a closed candle, because the store refuses its row for good."""
        open_ms = self.interval.open_at(open_ms)
        self.reopen(open_ms, now_ms=now_ms)
        self.give_up(open_ms, self.interval.next_open(open_ms), Absence(Absent.REFUSED))

    def give_up(self, first_ms: int, end_ms: int, absence: Absence) -> None:
        """Mark as absent what is missing in [`first_ms`, `end_ms`)."""
        for gap in self.gaps.clear(first_ms, end_ms):
            self.absences.mark(gap.first_ms, gap.end_ms, absence)
            self.losses.give_up(gap.first_ms, gap.end_ms, absence.reason)
            self.tally.given_up[absence.reason] += self.count([gap])

    def fail(self, first_ms: int, end_ms: int, error: str) -> None:
        """Note why what is missing in [`first_ms`, `end_ms`) could not be fetched."""
        for gap in self.gaps.clear(first_ms, end_ms):
            self.gaps.mark(gap.first_ms, gap.end_ms, evolve(gap.mark, error=error))

    def due_absence(self, now_ms: int) -> Span[Absence] | None:
        """Return the oldest absence that should be looked at again by now, if there is one."""
        return next(
            (
                each
                for each in self.absences
                if each.mark.look_again_ms is not None and each.mark.look_again_ms <= now_ms
            ),
            None,
        )

    def next_look_ms(self) -> int | None:
        """Return when the next absence should be looked at again; None if none should."""
        looks = (each.mark.look_again_ms for each in self.absences)
        return min((look_ms for look_ms in looks if look_ms is not None), default=None)

    def remark_absent(
        self, first_ms: int, end_ms: int, remarked: Callable[[Absence], Absence]
    ) -> None:
        """Replace the marks of absences in [`first_ms`, `end_ms`) after another look."""
        for each in self.absences.clear(first_ms, end_ms):
            self.absences.mark(each.first_ms, each.end_ms, remarked(each.mark))

    def disprove(self, first_ms: int, end_ms: int) -> None:
        """Mark absences in [`first_ms`, `end_ms`) missing: the exchange has these candles."""
        for each in self.absences.within(first_ms, end_ms):
            self._miss(each.first_ms, each.end_ms, Missing(Urgency.HISTORY), None)
            self.tally.disproved += self.count([each])

    def next_gap(self, *, but: Collection[int] = ()) -> Gap | None:
        """Return the newest of the most urgent gaps, except those that begin at `but`."""
        gaps = (gap for gap in self.gaps if gap.first_ms not in but)
        return min(gaps, key=lambda gap: (gap.mark.urgency, -gap.first_ms), default=None)

    def _miss(self, first_ms: int, end_ms: int, mark: Missing, lost_ms: int | None) -> None:
        """Mark a gap; what is missing already is not counted again.

        It was found lost at `lost_ms`; None if this run has not lost it.
        """
        known = self.gaps.clear(first_ms, end_ms)
        if lost_ms is not None:
            if self.losses is NO_LOSSES:
                self.losses = LossRecord()
            self.losses.lose(first_ms, end_ms, mark.urgency, lost_ms, known)
        self.absences.clear(first_ms, end_ms)
        self.gaps.mark(first_ms, end_ms, mark)
        self.tally.found[mark.urgency] += self.interval.count(first_ms, end_ms) - self.count(known)

    def _fill(self, open_ms: int, now_ms: int) -> bool:
        """Note a candle before the horizon; return whether it was missing or absent."""
        end_ms = self.interval.next_open(open_ms)
        if filled := self.gaps.clear(open_ms, end_ms):
            self.healed += 1
            self.tally.healed[filled[0].mark.urgency] += 1
        elif not self.absences.clear(open_ms, end_ms):
            return False
        self.losses.heal(open_ms, end_ms, now_ms)
        return True

    def _advance(self) -> None:
        """Move the horizon past the candle at it, and past those after it that have closed."""
        self.horizon_ms = self.interval.next_open(self.horizon_ms)
        while self.horizon_ms in self._early:
            self.horizon_ms = self.interval.next_open(self.horizon_ms)
        if self._early:
            self._early = frozenset(each for each in self._early if each > self.horizon_ms) or _NONE

    def _is_on_grid(self, open_ms: int) -> bool:
        # In 2018 the exchange was 15 seconds late for a while.
        return self.interval.open_at(open_ms) == open_ms
