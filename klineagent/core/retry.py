"""Retries: backoff, and log lines about failures that are frequent enough and not too many."""

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
    """Logs the failures of an operation that is retried.

    A line is logged when failures begin, when the error's type changes, once a minute, and when
    they are over.
    """

    event: str
    """The event name of failures."""
    event_over: str
    """The event name of the end of failures."""
    error: str = field(default="", init=False)
    """The last error; empty if the last attempt succeeded."""
    _kind: type[Exception] | None = field(default=None, init=False)
    _since: float = field(default=math.nan, init=False)
    _reported_at: float = field(default=math.nan, init=False)

    def lasts(self, error: Exception, *, alarm: bool = False, **details: object) -> None:
        """Note a failed attempt; with `alarm` it is logged as an error: an operator must act."""
        now, self.error = trio.current_time(), str(error)
        if self._kind is None:
            self._since = now
        if type(error) is not self._kind or now - self._reported_at >= REPORT_AGAIN_AFTER_S:
            self._kind, self._reported_at = type(error), now
            (log.error if alarm else log.warning)(self.event, error=str(error), **details)

    def over(self) -> None:
        """Note a successful attempt."""
        if self._kind is not None:
            self._kind, self.error = None, ""
            log.info(self.event_over, after_s=round(trio.current_time() - self._since, 1))


@define(eq=False)
class Burst:
    """Logs something that may happen many times in a row.

    A line is logged at once, and then at most once a minute with the number of times since.
    """

    event: str
    """The event name."""
    _count: int = field(default=0, init=False)
    _reported_at: float = field(default=-math.inf, init=False)

    def happens(self, newest: str, count: int = 1) -> None:
        """Note that it happened `count` times; the line shows `newest` as the latest example."""
        self._count += count
        now = trio.current_time()
        if now - self._reported_at >= REPORT_AGAIN_AFTER_S:
            log.warning(self.event, count=self._count, newest=newest)
            self._count, self._reported_at = 0, now


# A server that accepts connections and drops them at once must not reset the backoff: that was 400
# dials in 10 minutes.
HEALTHY_AFTER_S = 60.0


@define
class Backoff:
    """Computes retry delays: doubling ceilings with full jitter, reset after a minute of health."""

    first_s: float
    most_s: float = 30.0
    _failures: int = field(default=0, init=False)

    def after(self, lived_s: float = 0) -> float:
        """Return the seconds to wait after a failure that ended `lived_s` seconds of health."""
        if lived_s >= HEALTHY_AFTER_S:
            self._failures = 0
        # The exponent is capped so that a week of failures does not overflow a float.
        ceiling_s = min(self.most_s, self.first_s * 2 ** min(self._failures, 30))
        self._failures += 1
        # The shared generator, so that a seeded simulation is reproducible.
        return random.uniform(0, ceiling_s)  # noqa: S311 - jitter, no secret
