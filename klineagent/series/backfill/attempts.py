"""What was tried in vain for a gap, and how long it is left alone. Pure."""

from __future__ import annotations

import math

from attrs import evolve, frozen

# The first delay: REST may lag behind the stream by some seconds.
FIRST_DELAY_S = 1.0
# Delays double up to this, and up to the other for history and for symbols that do not trade.
PATIENT_DELAY_S = 60.0
IDLE_DELAY_S = 600.0
# In the end they are a sixtieth of the time for which the gap has been asked for, and never longer
# than this: candles from before a listing cost 130 requests on the first day and then 24 a day.
LONGEST_DELAY_S = 3600.0
_SHARE = 60


@frozen
class Attempts:
    """What was done in vain for the gap that begins at some open time. Times are Trio's."""

    since: float
    """When it was first in vain; delays grow from then on."""
    tries: int = 0
    """Requests that did not fill it, answered or not."""
    retry_at: float = -math.inf
    """What is past does not count: then it waits for its turn."""
    was_empty: bool = False
    """Whether the last answer had no candle at all."""
    was_doubtful: bool = False
    """Whether it told something that a second answer can settle."""

    def failed(self) -> Attempts:
        """After a request without an answer: nobody asks for a while, so no delay of its own."""
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
        """After an answer that did not settle the gap, at `now`.

        It is asked for again after `least_s`, and at once when an answer may prove something.
        """
        # A first hint after hours of nothing: delays begin anew.
        since = now if is_doubtful and not self.was_doubtful else self.since
        delay_s = retry_delay_s(now - since, PATIENT_DELAY_S if is_urgent else IDLE_DELAY_S)
        retry_at = now + max(least_s, delay_s)
        if now + least_s <= proven_at < retry_at:
            retry_at = proven_at
        return Attempts(since, self.tries + 1, retry_at, was_empty, is_doubtful)


def retry_delay_s(tried_for_s: float, patient_s: float) -> float:
    """How long a gap is left alone that has been asked for in vain for `tried_for_s`."""
    # As long as it has lasted: 1, 1, 2, 4, 8, ...
    longest_s = min(max(patient_s, tried_for_s / _SHARE), LONGEST_DELAY_S)
    return min(max(FIRST_DELAY_S, tried_for_s), longest_s)
