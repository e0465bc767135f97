"""What time it is at the exchange, as far as its witnesses agree. Pure.

Two kinds of witnesses tell the time: events, as they come, and answers to `/time`, when somebody
asks. Each may be wrong, so none is believed alone. An event moves the clock on by no more than what
has been counted since the clock was last confirmed, and a small bound. An answer confirms the clock
where it agrees with what it shows; otherwise the clock is set only when another witness agrees.
Whatever is not believed puts the clock in doubt: then somebody should ask.
"""

from __future__ import annotations

import enum
import math

from attrs import define, field, frozen

from klineagent.core.interval import SECOND_MS
from klineagent.exchange.clock.pace import Pace

# How far witnesses may differ that agree: the way of a message, a clock set by hand.
BOUND_MS = 5 * SECOND_MS
# How long an event may wait in this process; of a simulated exchange's time, which may pass faster,
# that is as many times more.
JITTER_MS = 250
# A clock that nobody tells the time any more, and one that only events have told it.
SILENT_AFTER_S = 90.0
UNCONFIRMED_AFTER_S = 3600.0
# Events that are older than what the clock shows come late, or the clock is ahead.
BEHIND_AFTER_S = 10.0
# A second witness is of use as long as both look at the same thing.
FORGOTTEN_AFTER_S = 60.0


class Verdict(enum.Enum):
    """What an answer to `/time` was worth."""

    RIGHT = "the clock was right"
    REFUTED = "the clock was right, and an event that said otherwise was not"
    SET = "another witness agrees, and the clock was set"
    ALONE = "nobody agrees"
    EARLY = "more must show how fast the exchange's time passes"


@frozen
class _TimeReport:
    """A time that was told, and when that was here."""

    ms: int
    sent_at: float
    """When it was asked for; the same as `at` for an event."""
    at: float

    def latest_ms(self, pace: float) -> float:
        """What time it may be by `at`, if it was told at once and took long to come."""
        return self.ms + (self.at - self.sent_at) * SECOND_MS * pace

    def lies_between(self, earliest_ms: float, latest_ms: float, pace: float) -> bool:
        """Whether it can be true together with clocks that show such times now."""
        bound_ms = _bound_ms(pace)
        return earliest_ms - bound_ms <= self.latest_ms(pace) and self.ms <= latest_ms + bound_ms

    def agrees(self, other: _TimeReport | None, pace: float) -> bool:
        """Whether `other`, an earlier one, may be true as well."""
        if other is None or self.at - other.at > FORGOTTEN_AFTER_S:
            return False
        return self.lies_between(other.ms_at(self.at), other.ms_at(self.at, pace), pace)

    def ms_at(self, at: float, pace: float = 1.0) -> float:
        """What time it is now, if this is true."""
        return self.ms + (at - self.at) * SECOND_MS * pace

    def repeats(self, before: _TimeReport) -> bool:
        """Whether it stands where the answer `before` it stood: a copy that somebody keeps."""
        passed_ms = (self.sent_at - before.at) * SECOND_MS
        # Truncated to milliseconds, and an exchange that is simulated may be slow.
        return before.ms <= self.ms < before.ms + passed_ms / 10 - 1


def _bound_ms(pace: float) -> float:
    return BOUND_MS + (pace - 1) * JITTER_MS


@define(eq=False)
class Reckoning:
    """The exchange's time by what was told; `at` is always Trio's time, and never decreases."""

    _newest_at: float
    _pace: Pace = field(factory=Pace)
    is_known: bool = field(default=False, init=False)
    """Whether two witnesses have agreed at all, and the pace was known by then."""
    rejected: int = field(default=0, init=False)
    """Times of events that were too far ahead."""
    ahead_ms: float = field(default=0, init=False)
    """How far ahead of the clock the last of these was."""
    steps: int = field(default=0, init=False)
    """How often two witnesses have set a clock that showed something else."""
    setbacks: int = field(default=0, init=False)
    """How often it went back so far that what was done by it should be undone."""
    _newest_ms: float = field(default=0, init=False)
    """The newest time that was believed; the clock shows it and what has passed since."""
    _confirmed_ms: float = field(default=0, init=False)
    _confirmed_at: float = field(default=-math.inf, init=False)
    # What was told and not believed: by the last event of that kind, by the last answer.
    _event: _TimeReport | None = field(default=None, init=False)
    _answer: _TimeReport | None = field(default=None, init=False)
    _is_disputed: bool = field(default=False, init=False)
    _behind_since: float | None = field(default=None, init=False)
    """Since when there were only events older than what the clock shows."""

    def now_ms(self, at: float) -> int:
        """What the clock shows."""
        return int(self._newest_ms + (at - self._newest_at) * SECOND_MS)

    def allows(self, time_ms: int, at: float) -> bool:
        """Whether it can be `time_ms` by now; anything can as long as nothing is known."""
        pace = self._pace.value
        return not self.is_known or time_ms <= self._counted_ms(at, pace) + _bound_ms(pace)

    def _counted_ms(self, at: float, pace: float = 1.0) -> float:
        """What time it is by nothing but what has passed since the last confirmation."""
        return self._confirmed_ms + (at - self._confirmed_at) * SECOND_MS * pace

    def silent_s(self, at: float) -> float:
        """How long ago a time was last believed."""
        return at - self._newest_at if self.is_known else math.inf

    def trusted_s(self, at: float) -> float:
        """How much longer the clock needs no confirmation, if nobody contradicts it."""
        if self._is_disputed or not self.is_known:
            return 0.0
        until = min(
            self._newest_at + SILENT_AFTER_S,
            self._confirmed_at + UNCONFIRMED_AFTER_S / self._pace.value,
            self._pace.due_at,
        )
        return max(0.0, until - at)

    def advance(self, time_ms: int, at: float) -> None:
        """An event has told the time."""
        self._pace.note(time_ms)
        if not self.is_known:
            self._event = _TimeReport(time_ms, at, at)
            answer, pace = self._answer, self._pace
            if answer is not None and pace.is_known and self._event.agrees(answer, pace.value):
                self.confirm(answer.ms_at(at), at)
        elif not self.allows(time_ms, at):
            self.rejected, self.ahead_ms = self.rejected + 1, time_ms - self.now_ms(at)
            self._event = _TimeReport(time_ms, at, at)
            self._is_disputed = True
        elif time_ms > self._newest_ms and time_ms >= self._counted_ms(at) - BOUND_MS:
            self._newest_ms, self._newest_at = time_ms, at
            self._behind_since = None
        else:
            self._event = _TimeReport(time_ms, at, at)
            if self._behind_since is None:
                self._behind_since = at
            self._is_disputed |= at - self._behind_since >= BEHIND_AFTER_S

    def answer(self, time_ms: int, sent_at: float, at: float) -> Verdict:
        """An answer to `/time`, asked for at `sent_at`, has come."""
        answer = _TimeReport(time_ms, sent_at, at)
        before, self._answer = self._answer, answer
        if before is not None and answer.repeats(before):
            return Verdict.ALONE
        if not self._pace.is_known:
            self._pace.measure(time_ms, sent_at, at)
        if not self._pace.is_known:
            return Verdict.EARLY if self._pace.is_patient else Verdict.ALONE
        shown_ms, event, pace = self.now_ms(at), self._event, self._pace.value
        counted_ms = self._counted_ms(at), self._counted_ms(at, pace)
        earliest_ms = min(shown_ms, *counted_ms)
        if self.is_known and answer.lies_between(earliest_ms, max(counted_ms), pace):
            latest_ms = answer.latest_ms(pace)
            is_refuted = event is not None and event.ms_at(at) > latest_ms + BOUND_MS
            self._confirm(min(max(time_ms, shown_ms), latest_ms), answer)
            return Verdict.REFUTED if is_refuted else Verdict.RIGHT
        # Two answers at the same moment are one where it matters: where a clock is to be moved.
        is_second = before is not None and (not self.is_known or time_ms > before.ms)
        if answer.agrees(event, pace) or (is_second and answer.agrees(before, pace)):
            self.steps += self.is_known
            self._confirm(time_ms, answer)
            return Verdict.SET
        return Verdict.ALONE

    def _confirm(self, time_ms: float, answer: _TimeReport) -> None:
        self._pace.measure(answer.ms, answer.sent_at, answer.at)
        self.confirm(time_ms, answer.at)

    def confirm(self, time_ms: float, at: float) -> None:
        """It is `time_ms`, beyond doubt."""
        self.setbacks += self.is_known and time_ms < self.now_ms(at) - _bound_ms(self._pace.value)
        self.is_known = True
        self._newest_ms = self._confirmed_ms = time_ms
        self._newest_at = self._confirmed_at = at
        self._event = self._behind_since = None
        self._is_disputed = False
