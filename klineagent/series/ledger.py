"""What is known of a series: which candles are due, closed, missing, or absent. Pure.

Every open time from the ledger's first to its horizon is closed, unless it lies in a gap (it is
missing and must be fetched) or in an absence (no such candle will come). The horizon is the first
candle that need not be closed yet: a closing event moves it, and so does its deadline. What is
closed is not listed anywhere, so the ledger grows with gaps and not with candles.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from attrs import define, evolve, field, frozen

from klineagent.core.interval import DAY_MS, HOUR_MS, Interval
from klineagent.exchange.budget import UNHURRIED
from klineagent.series.spans import Span, Spans


class Urgency(enum.IntEnum):
    """How soon a gap must be filled, by how it came to be; lower is sooner."""

    FRESH = 0
    """The stream was away and is back, or a row was lost between here and the store."""
    MISSED = 1
    """A deadline passed without a closing event."""
    RESTART = 2
    """The store lacks it, as was seen at the start."""
    HISTORY = UNHURRIED
    """It is older than the subscription."""


class Absent(enum.StrEnum):
    """Why a candle will not come."""

    NO_CANDLE = "the exchange has no such candle"
    NOT_TRADING = "the symbol did not trade"
    OFF_GRID = "the exchange's candle opens off the grid, and is stored as it is"
    REFUSED = "the store refuses the row"


# What an absence was proven by can be wrong: the exchange is asked again after these times.
LOOKS_AFTER_MS = (HOUR_MS, DAY_MS)


@frozen
class Absence:
    """The mark of candles that will not come. Plain values, for it is kept in a file, too."""

    reason: Absent
    look_again_ms: int | None = None
    """When the exchange is asked for them again, by its clock; None for never.

    One moment of each hour, so that neighbours which were given up one by one have equal marks;
    each series has another one, so that a market does not ask all at once.
    """
    looks: int = 0
    """How often it was asked again so far, and still had none."""

    @classmethod
    def proven(cls, reason: Absent, now_ms: int, into_hour_ms: int = 0) -> Absence:
        """An absence of which the exchange gave proof at `now_ms`.

        `into_hour_ms` is the moment of an hour at which the series looks again.
        """
        return cls(reason, _next_turn(now_ms + LOOKS_AFTER_MS[0], into_hour_ms))

    def confirmed(self, now_ms: int) -> Absence:
        """The same, after the exchange was asked again at `now_ms` and still had none."""
        looks = self.looks + 1
        if looks >= len(LOOKS_AFTER_MS):
            return Absence(self.reason, None, looks)
        return evolve(self.postponed(now_ms, by_ms=LOOKS_AFTER_MS[looks]), looks=looks)

    def postponed(self, now_ms: int, *, by_ms: int = HOUR_MS) -> Absence:
        """The same, after the exchange was asked again at `now_ms` and its answer told nothing."""
        into_hour_ms = (self.look_again_ms or 0) % HOUR_MS
        return evolve(self, look_again_ms=_next_turn(now_ms + by_ms, into_hour_ms))

    def rewound(self, now_ms: int) -> Absence:
        """The same, after the clock was set back to `now_ms`: it may have been proven ahead."""
        after_ms = LOOKS_AFTER_MS[min(self.looks, len(LOOKS_AFTER_MS) - 1)]
        latest_ms = self.postponed(now_ms, by_ms=after_ms).look_again_ms or 0
        if self.look_again_ms is None or self.look_again_ms <= latest_ms:
            return self
        return self.postponed(now_ms, by_ms=0)


def _next_turn(time_ms: int, into_hour_ms: int) -> int:
    """The first moment from `time_ms` on that is so far into an hour."""
    return Interval.H1.first_open(time_ms - into_hour_ms) + into_hour_ms


@frozen
class Missing:
    """The mark of a gap. Plain values, for it is kept in a file, too."""

    urgency: Urgency
    error: str = ""
    """Why the last try to fetch it failed, if it did, or did not settle it."""
    above_version: int = 0
    """The rank of a stored row that is wrong: what is fetched must outrank it. 0 if none is."""

    @property
    def may_not_exist(self) -> bool:
        """Whether the exchange answered without it, and a halt of trading would explain that."""
        return self.error == NOT_SHOWN


# Why an answer did not settle a gap.
NOT_SHOWN = "the exchange's answer did not have it; that there is none is not proven yet"
WITHHELD = "the exchange's answer did not have it, though it has a candle in every interval"
UNREADABLE = "the exchange's answer has a candle that cannot be read, or has one twice"
UNCONFIRMED = "the exchange's answer had it; a second one must agree"


Gap = Span[Missing]


@define(eq=False)
class MissingCounts:
    """What became of missing candles so far, in all ledgers that share it.

    What was found was filled or given_up since, or is missing still.
    """

    found: Counter[Urgency] = field(factory=Counter, init=False)
    healed: Counter[Urgency] = field(factory=Counter, init=False)
    """They came after all, whichever way."""
    given_up: Counter[Absent] = field(factory=Counter, init=False)
    disproved: int = field(default=0, init=False)
    """Candles that were absent and that the exchange then had."""
    overlooked: int = field(default=0, init=False)
    """Candles that counted as closed and were not stored, as the audit found."""


@define(eq=False)
class Ledger:
    """The account of one series, from the moment it begins and further back where that was asked.

    Times are the exchange's, in milliseconds; what is counted are open times.
    """

    interval: Interval
    grace_ms: int
    """How long after its close a candle may stay open."""
    tally: MissingCounts = field(factory=MissingCounts)
    began_ms: int = field(default=0, init=False)
    """The open time it began with; what is older was not watched as it closed."""
    first_ms: int = field(default=0, init=False)
    """The oldest open time that is accounted for."""
    horizon_ms: int = field(default=0, init=False)
    """The oldest open time that is not due yet."""
    gaps: Spans[Missing] = field(factory=Spans, init=False)
    absences: Spans[Absence] = field(factory=Spans, init=False)
    """None of them overlaps a gap."""
    healed: int = field(default=0, init=False)
    """How many candles came after they were missing."""
    # Closed before their turn. A candle falls due within the grace after its close, so this holds
    # the candles of one grace at most: one, or five where candles last a second.
    _early: set[int] = field(factory=set, init=False)

    @property
    def has_begun(self) -> bool:
        """Whether candles are expected by now."""
        return self.horizon_ms > 0

    @property
    def deadline_ms(self) -> int:
        """When the candle at the horizon falls due."""
        return self.interval.next_open(self.horizon_ms) + self.grace_ms

    @property
    def missing(self) -> int:
        """How many candles lie in gaps."""
        return self.count(self.gaps)

    @property
    def absent(self) -> int:
        """How many candles will not come."""
        return self.count(self.absences)

    @property
    def newest_early_ms(self) -> int | None:
        """The newest candle that has closed before an older one did, if there is any."""
        return max(self._early, default=None)

    def count(self, spans: Iterable[Span[Any]]) -> int:
        """How many candles open in `spans`."""
        return sum(self.interval.count(span.first_ms, span.end_ms) for span in spans)

    def has_closed(self, open_ms: int) -> bool:
        """Whether that candle's closing is known, and it was not lost since."""
        if open_ms >= self.horizon_ms:
            return open_ms in self._early
        return (
            open_ms >= self.first_ms and open_ms not in self.gaps and open_ms not in self.absences
        )

    def was_handed_on(self, open_ms: int) -> bool:
        """Whether the store has, or will get, what the exchange has at that open time."""
        absence = self.absences.at(open_ms)
        is_off_grid = absence is not None and absence.mark.reason is Absent.OFF_GRID
        return is_off_grid or self.has_closed(open_ms)

    def begin(self, now_ms: int) -> None:
        """Expect every candle from the one that is open at `now_ms`."""
        self.began_ms = self.first_ms = self.horizon_ms = self.interval.open_at(now_ms)

    def reach_back(self, first_ms: int) -> None:
        """Account for candles from `first_ms` on: they are stored, but for what is `expect`ed."""
        self.first_ms = min(self.first_ms, first_ms)

    def close(self, open_ms: int) -> bool:
        """A closed candle has come; tell whether it was not there before."""
        if open_ms == self.horizon_ms:
            self._advance()
            return True
        if not self._is_on_grid(open_ms):
            return False
        if open_ms < self.horizon_ms:
            return self._fill(open_ms)
        is_new = open_ms not in self._early
        self._early.add(open_ms)
        return is_new

    def fall_due(self, now_ms: int, *, stream_was_away: bool = False) -> bool:
        """Count as missing what should have closed by `now_ms`; tell whether anything is.

        Where the stream was away, closing events are lost for sure: no grace is left to them.
        """
        grace_ms, urgency = self.grace_ms, Urgency.MISSED
        if stream_was_away:
            grace_ms, urgency = 0, Urgency.FRESH
        due_until_ms = self.interval.open_at(now_ms - grace_ms)
        found = False
        while self.horizon_ms < due_until_ms:
            end_ms = min([due_until_ms, *self._early])
            if self.horizon_ms < end_ms:
                self._miss(self.horizon_ms, end_ms, Missing(urgency))
                self.horizon_ms = end_ms
                found = True
            if end_ms in self._early:
                self._advance()
        return found

    def rewind(self, now_ms: int) -> None:
        """The clock was ahead, and it is `now_ms`: what has not closed by now is not due yet.

        Nor is an absence looked at later than if it had been proven by now.
        """
        for each in [*self.absences]:
            self.absences.mark(each.first_ms, each.end_ms, each.mark.rewound(now_ms))
        open_ms = self.interval.open_at(now_ms)
        if open_ms >= self.horizon_ms:
            return
        for gap in self.gaps.clear(open_ms, self.horizon_ms):
            self.tally.found[gap.mark.urgency] -= self.count([gap])
        self.absences.clear(open_ms, self.horizon_ms)
        self.horizon_ms = open_ms
        self.began_ms, self.first_ms = min(self.began_ms, open_ms), min(self.first_ms, open_ms)

    def expect(self, first_ms: int, end_ms: int, mark: Missing) -> None:
        """Count as missing what opened in [`first_ms`, `end_ms`), before the ledger's first."""
        end_ms = min(end_ms, self.horizon_ms)
        if first_ms < end_ms:
            self.reach_back(first_ms)
            self._miss(first_ms, end_ms, mark)

    def expect_none(self, first_ms: int, end_ms: int, absence: Absence) -> None:
        """What opened in [`first_ms`, `end_ms`) will not come, as was known before."""
        end_ms = min(end_ms, self.horizon_ms)
        if first_ms < end_ms:
            self.reach_back(first_ms)
            self.gaps.clear(first_ms, end_ms)
            self.absences.mark(first_ms, end_ms, absence)

    def reopen(self, open_ms: int, *, above_version: int = 0) -> None:
        """The row of a closed candle did not reach the store, or is wrong there: it is missing.

        One that opened off the grid is fetched with its slot. See `Missing.above_version`.
        """
        open_ms = self.interval.open_at(open_ms)
        if open_ms >= self.horizon_ms:
            self._early.discard(open_ms)
        elif open_ms >= self.first_ms:
            end_ms = self.interval.next_open(open_ms)
            self._miss(open_ms, end_ms, Missing(Urgency.FRESH, above_version=above_version))

    def set_aside(self, open_ms: int) -> None:
        """The store will never take the row of a closed candle."""
        open_ms = self.interval.open_at(open_ms)
        self.reopen(open_ms)
        self.give_up(open_ms, self.interval.next_open(open_ms), Absence(Absent.REFUSED))

    def give_up(self, first_ms: int, end_ms: int, absence: Absence) -> None:
        """Whatever is missing in [`first_ms`, `end_ms`) will not come."""
        for gap in self.gaps.clear(first_ms, end_ms):
            self.absences.mark(gap.first_ms, gap.end_ms, absence)
            self.tally.given_up[absence.reason] += self.count([gap])

    def fail(self, first_ms: int, end_ms: int, error: str) -> None:
        """Note why what is missing in [`first_ms`, `end_ms`) could not be fetched."""
        for gap in self.gaps.clear(first_ms, end_ms):
            self.gaps.mark(gap.first_ms, gap.end_ms, evolve(gap.mark, error=error))

    def due_absence(self, now_ms: int) -> Span[Absence] | None:
        """The oldest absence that it is time to look at again, if any is."""
        return next(
            (
                each
                for each in self.absences
                if each.mark.look_again_ms is not None and each.mark.look_again_ms <= now_ms
            ),
            None,
        )

    def next_look_ms(self) -> int | None:
        """When an absence is to be looked at again, if any is."""
        looks = (each.mark.look_again_ms for each in self.absences)
        return min((look_ms for look_ms in looks if look_ms is not None), default=None)

    def remark_absent(
        self, first_ms: int, end_ms: int, remarked: Callable[[Absence], Absence]
    ) -> None:
        """What is absent in [`first_ms`, `end_ms`) was looked at again."""
        for each in self.absences.clear(first_ms, end_ms):
            self.absences.mark(each.first_ms, each.end_ms, remarked(each.mark))

    def disprove(self, first_ms: int, end_ms: int) -> None:
        """The exchange has what counted as absent in [`first_ms`, `end_ms`): it is missing."""
        for each in self.absences.within(first_ms, end_ms):
            self._miss(each.first_ms, each.end_ms, Missing(Urgency.HISTORY))
            self.tally.disproved += self.count([each])

    def next_gap(self, *, but: Collection[int] = ()) -> Gap | None:
        """The gap to fill next: of the most urgent the newest, but none that begins at `but`."""
        gaps = (gap for gap in self.gaps if gap.first_ms not in but)
        return min(gaps, key=lambda gap: (gap.mark.urgency, -gap.first_ms), default=None)

    def _miss(self, first_ms: int, end_ms: int, mark: Missing) -> None:
        """Mark a gap; what lies in one already is not found anew."""
        known = self.count(self.gaps.clear(first_ms, end_ms))
        self.absences.clear(first_ms, end_ms)
        self.gaps.mark(first_ms, end_ms, mark)
        self.tally.found[mark.urgency] += self.interval.count(first_ms, end_ms) - known

    def _fill(self, open_ms: int) -> bool:
        """A candle before the horizon has come; tell whether it was missing, or thought absent."""
        end_ms = self.interval.next_open(open_ms)
        if not (filled := self.gaps.clear(open_ms, end_ms)):
            return bool(self.absences.clear(open_ms, end_ms))
        self.healed += 1
        self.tally.healed[filled[0].mark.urgency] += 1
        return True

    def _advance(self) -> None:
        """The candle at the horizon is closed, and so may be those that follow."""
        while True:
            self._early.discard(self.horizon_ms)
            self.horizon_ms = self.interval.next_open(self.horizon_ms)
            if self.horizon_ms not in self._early:
                return

    def _is_on_grid(self, open_ms: int) -> bool:
        # In 2018 the exchange was 15 seconds late for a while.
        return self.interval.open_at(open_ms) == open_ms
