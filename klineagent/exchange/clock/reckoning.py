"""Reckoning of the exchange's time from reports that may each be wrong. Pure.

Events report the time as they come, answers to `/time` when the exchange is asked. No single report
is believed. An event advances the clock by at most the time that has passed since the clock was
last confirmed, plus a small bound. An answer confirms the clock if both agree; otherwise the clock
is set only if another report agrees. A report that is not believed puts the clock in doubt, and the
exchange should be asked.
"""

from __future__ import annotations

import enum
import math

from attrs import define, field, frozen

from klineagent.core.interval import SECOND_MS
from klineagent.exchange.clock.pace import Pace

# How far reports may differ and still agree: latency, a clock set by hand.
BOUND_MS = 5 * SECOND_MS
# How long an event may wait in this process; multiplied by the pace of a simulated exchange's time.
JITTER_MS = 250
# The clock needs confirmation after so long without credible reports, or with events alone.
SILENT_AFTER_S = 90.0
UNCONFIRMED_AFTER_S = 3600.0
# After so long with events older than the clock alone, the clock may be ahead.
BEHIND_AFTER_S = 10.0
# An older report does not confirm a new one.
FORGOTTEN_AFTER_S = 60.0


class Verdict(enum.Enum):
    """The verdict on an answer to `/time`."""

    RIGHT = "the clock was right"
    REFUTED = "the clock was right, and an event that contradicted it was wrong"
    SET = "another report agrees, and the clock was set"
    ALONE = "no other report agrees"
    EARLY = "more answers must show how fast the exchange's time passes"


@frozen
class _TimeReport:
    """A reported time of the exchange, and when the report came, by Trio's clock."""

    ms: int
    sent_at: float
    """When it was requested; the same as `at` for an event."""
    at: float

    def latest_ms(self, pace: float) -> float:
        """Return the latest time it may have been by `at`, if the answer took all of the delay."""
        return self.ms + (self.at - self.sent_at) * SECOND_MS * pace

    def lies_between(self, earliest_ms: float, latest_ms: float, pace: float) -> bool:
        """Whether the report can be true if it is between the two times now."""
        bound_ms = _bound_ms(pace)
        return earliest_ms - bound_ms <= self.latest_ms(pace) and self.ms <= latest_ms + bound_ms

    def agrees(self, other: _TimeReport | None, pace: float) -> bool:
        """Whether `other`, an earlier report, may be true as well."""
        if other is None or self.at - other.at > FORGOTTEN_AFTER_S:
            return False
        return self.lies_between(other.ms_at(self.at), other.ms_at(self.at, pace), pace)

    def ms_at(self, at: float, pace: float = 1.0) -> float:
        """Return the time at `at`, if the report is true."""
        return self.ms + (at - self.at) * SECOND_MS * pace

    def repeats(self, before: _TimeReport) -> bool:
        """Whether the time has stood still since the answer `before`: a cached copy."""
        passed_ms = (self.sent_at - before.at) * SECOND_MS
        # Times are truncated to milliseconds, and a simulated exchange may be slow.
        return before.ms <= self.ms < before.ms + passed_ms / 10 - 1


def _bound_ms(pace: float) -> float:
    return BOUND_MS + (pace - 1) * JITTER_MS


@define(eq=False)
class Reckoning:
    """Reckons the exchange's time from reported times; `at` is Trio's time and never decreases."""

    _newest_at: float
    _pace: Pace = field(factory=Pace)
    is_known: bool = field(default=False, init=False)
    """Whether two reports have agreed while the pace was known."""
    rejected: int = field(default=0, init=False)
    """The number of events whose time was too far ahead."""
    ahead_ms: float = field(default=0, init=False)
    """How far ahead of the clock the last rejected event was."""
    steps: int = field(default=0, init=False)
    """How often two agreeing reports have set the clock to another time."""
    setbacks: int = field(default=0, init=False)
    """How often the clock was set back so far that decisions made by it must be undone."""
    _newest_ms: float = field(default=0, init=False)
    """The newest credible time; the clock shows it plus the time that has passed since."""
    _confirmed_ms: float = field(default=0, init=False)
    _confirmed_at: float = field(default=-math.inf, init=False)
    # The last event that was not believed, and the last answer.
    _event: _TimeReport | None = field(default=None, init=False)
    _answer: _TimeReport | None = field(default=None, init=False)
    _is_disputed: bool = field(default=False, init=False)
    _behind_since: float | None = field(default=None, init=False)
    """Since when all events have been older than the clock."""

    def now_ms(self, at: float) -> int:
        """Return the time that the clock shows."""
        return int(self._newest_ms + (at - self._newest_at) * SECOND_MS)

    def allows(self, time_ms: int, at: float) -> bool:
        """Whether it can be `time_ms` by now; True until the time is known."""
        pace = self._pace.value
        return not self.is_known or time_ms <= self._counted_ms(at, pace) + _bound_ms(pace)

    def _counted_ms(self, at: float, pace: float = 1.0) -> float:
        """Return the last confirmed time plus the time that has passed since."""
        return self._confirmed_ms + (at - self._confirmed_at) * SECOND_MS * pace

    def silent_s(self, at: float) -> float:
        """Return the seconds since a reported time was last believed."""
        return at - self._newest_at if self.is_known else math.inf

    def trusted_s(self, at: float) -> float:
        """Return for how many seconds the clock needs no confirmation, unless contradicted."""
        if self._is_disputed or not self.is_known:
            return 0.0
        until = min(
            self._newest_at + SILENT_AFTER_S,
            self._confirmed_at + UNCONFIRMED_AFTER_S / self._pace.value,
            self._pace.due_at,
        )
        return max(0.0, until - at)

    def advance(self, time_ms: int, at: float) -> None:
        """Take the time of an event; advance the clock if it is credible, else dispute it."""
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
        """Take an answer to `/time`, requested at `sent_at`; return what it was worth."""
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
        # Moving a known clock takes a newer answer: one of the same time is no second report.
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
        """Set the clock to `time_ms`, which is beyond doubt."""
        self.setbacks += self.is_known and time_ms < self.now_ms(at) - _bound_ms(self._pace.value)
        self.is_known = True
        self._newest_ms = self._confirmed_ms = time_ms
        self._newest_at = self._confirmed_at = at
        self._event = self._behind_since = None
        self._is_disputed = False
