"""The pace of the exchange's time: how fast it passes. Pure."""

from __future__ import annotations

import math

from attrs import define, field

from klineagent.core.interval import SECOND_MS

# How long one measurement takes, in seconds: the first, and the longest later on.
FIRST_OVER_S, MOST_OVER_S = 0.1, 10.0
# Time that passes fast comes in many steps; a machine that was suspended sees one large step. This
# share of the measured time is the largest step that counts as one of many.
_LARGEST_STEP = 0.1
# Two measurements agree if they differ by no more than this factor: the machine may be busy.
_ALIKE = 2.0
# A day per second: no simulation is faster.
_FASTEST = 86_400
# So many measurements are made before it is logged that none agree.
_PATIENT_FOR = 5


@define(eq=False)
class Pace:
    """Measures how many of the exchange's seconds pass in one of ours: one, unless simulated.

    A measurement compares two answers to `/time`; the longer the time between them, the better. A
    fast pace counts only if latency cannot explain it, if two measurements in a row find it, and if
    the reported times rose evenly in between: otherwise the machine may have been suspended.
    """

    is_simulated: bool = False
    """Whether the exchange runs on this machine. Then its time may pass fast and in large steps,
    and the pace is unknown until it was measured."""
    value: float = field(default=1.0, init=False)
    is_known: bool = field(init=False)
    _measurements: int = field(default=0, init=False)
    _last: float = field(default=math.nan, init=False)
    """The pace by the last measurement alone."""
    _over_s: float = field(default=FIRST_OVER_S, init=False)
    # The answer that the next measurement begins with.
    _from_ms: int = field(default=0, init=False)
    _from_sent_at: float = field(default=-math.inf, init=False)
    _from_at: float = field(default=-math.inf, init=False)
    _last_ms: int = field(default=0, init=False)
    """The last reported time."""
    _step_ms: int = field(default=0, init=False)
    """The largest step between two reported times since the measurement began."""

    def __attrs_post_init__(self) -> None:
        self.is_known = not self.is_simulated

    @property
    def is_patient(self) -> bool:
        """Whether it is too early to report that the pace is unknown."""
        return not self.is_known and self._measurements < _PATIENT_FOR

    @property
    def due_at(self) -> float:
        """When another answer would improve a rough measurement, by Trio's clock; inf for never."""
        is_rough = self.is_simulated and self.value > 1 and self._over_s < MOST_OVER_S
        return self._from_at + self._over_s if is_rough else math.inf

    def note(self, time_ms: int) -> None:
        """Note a reported time."""
        self._step_ms = max(self._step_ms, time_ms - self._last_ms)
        self._last_ms = time_ms

    def measure(self, time_ms: int, sent_at: float, at: float) -> None:
        """Take a credible answer, requested at `sent_at` and received at `at` by Trio's clock."""
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
