"""What is known of a series: which candles are due, closed, missing, or absent. Pure.

Every open time from the ledger's first to its horizon is closed, unless it lies in a hole (it is
missing and must be fetched) or in an absence (no such candle will come). The horizon is the first
candle that need not be closed yet: a closing event moves it, and so does its deadline. What is
closed is not listed anywhere, so the ledger grows with gaps and not with candles.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

from attrs import define, evolve, field, frozen

from klineagent.kline import Interval
from klineagent.series.spans import Span, Spans


class Urgency(enum.IntEnum):
    """How soon a hole must be filled, by how it came to be; lower is sooner."""

    FRESH = 0
    """The stream was away and is back, or a row was lost between here and the store."""
    MISSED = 1
    """A deadline passed without a closing event."""
    RESTART = 2
    """The store lacks it, as was seen at the start."""
    HISTORY = 3
    """It is older than the subscription."""


class Absent(enum.StrEnum):
    """Why a candle will not come."""

    NO_CANDLE = "the exchange has no such candle"
    NOT_TRADING = "the symbol did not trade"
    REFUSED = "the store refuses the row"


@frozen
class Missing:
    """The mark of a hole."""

    urgency: Urgency
    error: str = ""
    """Why the last try to fetch it failed, if it did."""


Hole = Span[Missing]
Absence = Span[Absent]


@define(eq=False)
class Ledger:
    """The account of one series, from the moment it begins and further back where that was asked.

    Times are the exchange's, in milliseconds; what is counted are open times.
    """

    interval: Interval
    grace_ms: int
    """How long after its close a candle may stay open."""
    first_ms: int = field(default=0, init=False)
    """The oldest open time that is accounted for."""
    horizon_ms: int = field(default=0, init=False)
    """The oldest open time that is not due yet."""
    holes: Spans[Missing] = field(factory=Spans, init=False)
    absences: Spans[Absent] = field(factory=Spans, init=False)
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
        """How many candles lie in holes."""
        return sum(self.interval.count(hole.first_ms, hole.end_ms) for hole in self.holes)

    def begin(self, now_ms: int) -> None:
        """Expect every candle from the one that is open at `now_ms`."""
        self.first_ms = self.horizon_ms = self.interval.open_at(now_ms)

    def close(self, open_ms: int) -> bool:
        """A closed candle has come; tell whether it was not there before."""
        if open_ms == self.horizon_ms:
            self._advance()
            return True
        if open_ms < self.horizon_ms:
            return bool(self.holes.clear(open_ms, self.interval.next_open(open_ms)))
        if self.interval.open_at(open_ms) != open_ms:
            return False  # on no grid of ours: in 2018 the exchange was 15 seconds late for a while
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
                self.holes.mark(self.horizon_ms, end_ms, Missing(urgency))
                self.horizon_ms = end_ms
                found = True
            if end_ms in self._early:
                self._advance()
        return found

    def expect(self, first_ms: int, end_ms: int, urgency: Urgency) -> None:
        """Count as missing what opened in [`first_ms`, `end_ms`), before the ledger's first."""
        end_ms = min(end_ms, self.horizon_ms)
        if first_ms < end_ms:
            self.first_ms = min(self.first_ms, first_ms)
            self.holes.mark(first_ms, end_ms, Missing(urgency))

    def reopen(self, open_ms: int) -> None:
        """The row of a closed candle was lost on its way to the store: it is missing again."""
        if open_ms >= self.horizon_ms:
            self._early.discard(open_ms)
        elif open_ms >= self.first_ms:
            self.holes.mark(open_ms, self.interval.next_open(open_ms), Missing(Urgency.FRESH))

    def set_aside(self, open_ms: int) -> None:
        """The store will never take the row of a closed candle."""
        self.reopen(open_ms)
        self.forgo(open_ms, self.interval.next_open(open_ms), Absent.REFUSED)

    def forgo(self, first_ms: int, end_ms: int, why: Absent) -> None:
        """Whatever is missing in [`first_ms`, `end_ms`) will not come."""
        for hole in self.holes.clear(first_ms, end_ms):
            self.absences.mark(hole.first_ms, hole.end_ms, why)

    def fail(self, first_ms: int, end_ms: int, error: str) -> None:
        """Note why what is missing in [`first_ms`, `end_ms`) could not be fetched."""
        for hole in self.holes.clear(first_ms, end_ms):
            self.holes.mark(hole.first_ms, hole.end_ms, evolve(hole.mark, error=error))

    def next_hole(self, *, but: Collection[int] = ()) -> Hole | None:
        """The hole to fill next: of the most urgent the newest, but none that begins at `but`."""
        holes = (hole for hole in self.holes if hole.first_ms not in but)
        return min(holes, key=lambda hole: (hole.mark.urgency, -hole.first_ms), default=None)

    def _advance(self) -> None:
        """The candle at the horizon is closed, and so may be those that follow."""
        self._early.discard(self.horizon_ms)
        self.horizon_ms = self.interval.next_open(self.horizon_ms)
        if self.horizon_ms in self._early:
            self._advance()
