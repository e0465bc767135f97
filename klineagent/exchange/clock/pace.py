"""How fast the exchange's time passes. Pure."""

from __future__ import annotations

import math

from attrs import define, field

from klineagent.core.interval import SECOND_MS

# Long enough to measure it, at first and later.
FIRST_OVER_S, MOST_OVER_S = 0.1, 10.0
# Time that passes faster comes in many steps; a machine that was suspended sees one that is large.
_LARGEST_STEP = 0.1
# Two measurements that agree differ by no more than this factor: the machine may be busy.
_ALIKE = 2.0
# A day in a second: what passes faster makes no sense.
_FASTEST = 86_400
# So many are made in any case, before somebody is told that none agree.
_PATIENT_FOR = 5


@define(eq=False)
class Pace:
    """How many of the exchange's seconds pass in one of ours: one, or the exchange is simulated.

    It is measured between two answers to `/time`. Only what cannot be the way of the messages
    counts, only twice in a row, and only if what was told in between went on evenly: else the
    machine may have been suspended. The longer the time between them, the better.
    """

    is_simulated: bool = False
    """Whether the exchange runs on this machine: its time may pass fast, and in large steps. Then
    nothing is known of the pace before it was measured."""
    value: float = field(default=1.0, init=False)
    is_known: bool = field(init=False)
    _measurements: int = field(default=0, init=False)
    _last: float = field(default=math.nan, init=False)
    """By the last measurement alone."""
    _over_s: float = field(default=FIRST_OVER_S, init=False)
    # Of the answer that the next measurement begins with.
    _from_ms: int = field(default=0, init=False)
    _from_sent_at: float = field(default=-math.inf, init=False)
    _from_at: float = field(default=-math.inf, init=False)
    _told_ms: int = field(default=0, init=False)
    """What was told last, and the largest step between two such since the measurement began."""
    _step_ms: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.is_known = not self.is_simulated

    @property
    def is_patient(self) -> bool:
        """Whether it is too early to wonder that nothing is known."""
        return not self.is_known and self._measurements < _PATIENT_FOR

    @property
    def due_at(self) -> float:
        """When another answer makes a rough measurement a better one; inf for never."""
        is_rough = self.is_simulated and self.value > 1 and self._over_s < MOST_OVER_S
        return self._from_at + self._over_s if is_rough else math.inf

    def note(self, time_ms: int) -> None:
        """Somebody has told a time."""
        self._step_ms = max(self._step_ms, time_ms - self._told_ms)
        self._told_ms = time_ms

    def measure(self, time_ms: int, sent_at: float, at: float) -> None:
        """An answer that was asked for at `sent_at` came at `at`, and is believed."""
        self.note(time_ms)
        from_ms, from_sent_at, from_at = self._from_ms, self._from_sent_at, self._from_at
        if at <= from_at or at - from_sent_at < self._over_s:
            return
        step_ms, self._step_ms = self._step_ms, 0
        self._from_ms, self._from_sent_at, self._from_at = time_ms, sent_at, at
        if from_at == -math.inf:
            return
        passed_s = (time_ms - from_ms) / SECOND_MS
        is_fast = passed_s > 1.5 * (at - from_sent_at)
        self._over_s = min(2 * self._over_s, MOST_OVER_S) if is_fast else FIRST_OVER_S
        is_even = self.is_simulated or step_ms <= _LARGEST_STEP * passed_s * SECOND_MS
        if is_fast and not is_even:
            return
        pace = passed_s / (at - from_at) if is_fast else 1.0
        self.value = pace if self._last > 1 else 1.0
        if passed_s >= 0 and pace <= _FASTEST:
            self.is_known |= 1 / _ALIKE <= pace / self._last <= _ALIKE
        self._measurements, self._last = self._measurements + 1, pace
