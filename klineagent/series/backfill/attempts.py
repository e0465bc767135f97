"""Attempts to fill a gap that did not settle it, and the retry delays between them. Pure."""

from __future__ import annotations

import math

from attrs import evolve, frozen

# The first retry delay: REST may lag behind the stream by some seconds.
FIRST_DELAY_S = 1.0
# Retry delays double up to this; for history and for symbols that do not trade, up to the second.
PATIENT_DELAY_S = 60.0
IDLE_DELAY_S = 600.0
# Later a delay is a sixtieth of the time since the first attempt, and never longer than this:
# candles from before a listing cost 130 requests on the first day and then 24 a day.
LONGEST_DELAY_S = 3600.0
_SHARE = 60


@frozen
class Attempts:
    """The attempts to fill one gap that did not settle it. Times are Trio's."""

    since: float
    """When the first attempt failed; retry delays grow from then on."""
    tries: int = 0
    """The number of requests that did not settle the gap, answered or not."""
    retry_at: float = -math.inf
    """When the next attempt may be made; in the past if it only waits for its turn."""
    was_empty: bool = False
    """Whether the last answer had no candle at all."""
    was_doubtful: bool = False
    """Whether a second answer can settle what the last one said."""

    def failed(self) -> Attempts:
        """Count a request without an answer; all requests back off, so it adds no delay."""
        return evolve(self, tries=self.tries + 1)

    def unsettled(
        self,
        now: float,
        *,
        least_s: float = 0,
        is_urgent: bool,
        was_empty: bool = False,
        is_doubtful: bool = False,
        proven_at: float = math.inf,
    ) -> Attempts:
        """Count an answer at `now` that did not settle the gap, and set the next attempt.

        The retry delay is at least `least_s`; it ends early at `proven_at`, when an answer may
        prove an absence.
        """
        # After a first hint delays begin anew, however long there was none.
        since = now if is_doubtful and not self.was_doubtful else self.since
        delay_s = retry_delay_s(now - since, PATIENT_DELAY_S if is_urgent else IDLE_DELAY_S)
        retry_at = now + max(least_s, delay_s)
        if now + least_s <= proven_at < retry_at:
            retry_at = proven_at
        return Attempts(since, self.tries + 1, retry_at, was_empty, is_doubtful)


def retry_delay_s(tried_for_s: float, patient_s: float) -> float:
    """Return the retry delay of a gap that has not been settled for `tried_for_s` seconds."""
    # The delay is the time since the first attempt: 1, 1, 2, 4, 8, ...
    longest_s = min(max(patient_s, tried_for_s / _SHARE), LONGEST_DELAY_S)
    return min(max(FIRST_DELAY_S, tried_for_s), longest_s)
