"""Telling of what fails for a while: often enough to be seen, seldom enough to be read."""

from __future__ import annotations

import math
import random

import structlog
import trio
from attrs import define, field

REPORT_AGAIN_AFTER_S = 60.0

log = structlog.get_logger()


@define(eq=False)
class Trouble:
    """Something that is tried again and again, and the log lines about it.

    It is told of when it begins, when its kind changes, once a minute, and when it is over.
    """

    event: str
    """What the log calls it."""
    event_over: str
    error: str = field(default="", init=False)
    """What was told last; empty when it is over."""
    _kind: type[Exception] | None = field(default=None, init=False)
    _since: float = field(default=math.nan, init=False)
    _reported_at: float = field(default=math.nan, init=False)

    def lasts(self, error: Exception, *, alarm: bool = False, **details: object) -> None:
        """Another try has failed; an `alarm` is something an operator must act on."""
        now, self.error = trio.current_time(), str(error)
        if self._kind is None:
            self._since = now
        if type(error) is not self._kind or now - self._reported_at >= REPORT_AGAIN_AFTER_S:
            self._kind, self._reported_at = type(error), now
            (log.error if alarm else log.warning)(self.event, error=str(error), **details)

    def over(self) -> None:
        """A try has succeeded, be it the first."""
        if self._kind is not None:
            self._kind, self.error = None, ""
            log.info(self.event_over, after_s=round(trio.current_time() - self._since, 1))


@define(eq=False)
class Burst:
    """Something that may happen many times in a row, and the log lines about it.

    It is told of at once, and then once a minute at most, with how often it happened since.
    """

    event: str
    """What the log calls it."""
    _count: int = field(default=0, init=False)
    _reported_at: float = field(default=-math.inf, init=False)

    def happens(self, newest: str, count: int = 1) -> None:
        """It has happened, `count` times; `newest` tells of one of them."""
        self._count += count
        now = trio.current_time()
        if now - self._reported_at >= REPORT_AGAIN_AFTER_S:
            log.warning(self.event, count=self._count, newest=newest)
            self._count, self._reported_at = 0, now


# A server that accepts and drops us at once must not reset the backoff: 400 dials in 10 minutes.
HEALTHY_AFTER_S = 60.0


@define
class Backoff:
    """Doubling ceilings with full jitter; they start anew after a minute of health."""

    first_s: float
    most_s: float = 30.0
    _failures: int = field(default=0, init=False)

    def after(self, lived_s: float = 0) -> float:
        """Seconds to wait after something failed that had worked for `lived_s` seconds."""
        if lived_s >= HEALTHY_AFTER_S:
            self._failures = 0
        # The exponent is capped so that a week of failures does not overflow a float.
        ceiling_s = min(self.most_s, self.first_s * 2 ** min(self._failures, 30))
        self._failures += 1
        # The module's own generator: seeded, a simulation repeats itself.
        return random.uniform(0, ceiling_s)  # noqa: S311 - jitter, no secret
