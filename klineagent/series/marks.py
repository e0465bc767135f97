"""The marks of candles in a ledger: missing, confirmed absent, lost before they came. Pure."""

from __future__ import annotations

import enum

from attrs import evolve, frozen

from klineagent.core.interval import DAY_MS, HOUR_MS, Interval
from klineagent.exchange.turns import UNHURRIED
from klineagent.series.spans import Span


class Urgency(enum.IntEnum):
    """The urgency of a gap, by its cause; lower is filled sooner."""

    FRESH = 0
    """The stream was interrupted, or a row was lost before it was stored."""
    MISSED = 1
    """A deadline passed without a closing event."""
    RESTART = 2
    """The startup scan found it missing in the store."""
    HISTORY = UNHURRIED
    """It is older than the subscription."""


class Absent(enum.StrEnum):
    """Why a candle will not come."""

    NO_CANDLE = "the exchange has no such candle"
    NOT_TRADING = "the symbol did not trade"
    OFF_GRID = "the exchange's candle opens off the grid, and is stored as it is"
    REFUSED = "the store refuses the row"


# The answers that confirmed an absence may be wrong, so the exchange is asked again after these
# times.
LOOKS_AFTER_MS = (HOUR_MS, DAY_MS)


@frozen
class Absence:
    """The mark of confirmed absent candles. It holds plain values, because it is saved to a file.

    `look_again_ms` falls on one moment of each hour, so that neighbouring candles given up one by
    one have equal marks. The moment differs by series, so that not all of a market ask at once.
    """

    reason: Absent
    look_again_ms: int | None = None
    """When the exchange is asked again, by its clock; None for never."""
    looks: int = 0
    """How often the exchange was asked again and still had no such candle."""

    @classmethod
    def proven(cls, reason: Absent, now_ms: int, into_hour_ms: int = 0) -> Absence:
        """Make the mark of an absence that was confirmed at `now_ms`.

        `into_hour_ms` is the moment of each hour at which the series asks again.
        """
        return cls(reason, _next_turn(now_ms + LOOKS_AFTER_MS[0], into_hour_ms))

    def confirmed(self, now_ms: int) -> Absence:
        """Return the mark after the exchange was asked again at `now_ms` and had no candle."""
        looks = self.looks + 1
        if looks >= len(LOOKS_AFTER_MS):
            return Absence(self.reason, None, looks)
        return evolve(self.postponed(now_ms, by_ms=LOOKS_AFTER_MS[looks]), looks=looks)

    def postponed(self, now_ms: int, *, by_ms: int = HOUR_MS) -> Absence:
        """Return the mark after the exchange was asked again at `now_ms` without a result."""
        into_hour_ms = (self.look_again_ms or 0) % HOUR_MS
        return evolve(self, look_again_ms=_next_turn(now_ms + by_ms, into_hour_ms))

    def rewound(self, now_ms: int) -> Absence:
        """Return the mark after the clock was set back to `now_ms`, with no later date than new."""
        after_ms = LOOKS_AFTER_MS[min(self.looks, len(LOOKS_AFTER_MS) - 1)]
        latest_ms = self.postponed(now_ms, by_ms=after_ms).look_again_ms or 0
        if self.look_again_ms is None or self.look_again_ms <= latest_ms:
            return self
        return self.postponed(now_ms, by_ms=0)


def _next_turn(time_ms: int, into_hour_ms: int) -> int:
    """Return the first time from `time_ms` on that is `into_hour_ms` into an hour."""
    return Interval.H1.first_open(time_ms - into_hour_ms) + into_hour_ms


@frozen
class Missing:
    """The mark of a gap. It holds plain values, because it is saved to a file."""

    urgency: Urgency
    error: str = ""
    """Why the last attempt to fetch it failed or did not settle it; empty before the first."""
    above_version: int = 0
    """The version of a wrong stored row, which the fetched row must exceed; 0 if there is none."""

    @property
    def may_not_exist(self) -> bool:
        """Whether the exchange answered without the candle, as it does after a trading halt."""
        return self.error == NOT_SHOWN


# Why an answer did not settle a gap. The texts are saved to a file and compared, so they must stay.
NOT_SHOWN = "the exchange's answer did not have it; that there is none is not proven yet"
WITHHELD = "the exchange's answer did not have it, though it has a candle in every interval"
UNREADABLE = "the exchange's answer has a candle that cannot be read, or has one twice"
UNCONFIRMED = "the exchange's answer had it; a second one must agree"


Gap = Span[Missing]


@frozen
class Loss:
    """The mark of candles that were lost since the agent started. Times are in milliseconds.

    Candles that are found one after another, as during an outage, have the mark of the first.
    """

    urgency: Urgency
    found_ms: int
    """When the first of them was found missing, by the exchange's clock."""
    came_ms: int | None = None
    """When they came; None before that."""
    given_up: Absent | None = None
    """Why they will not come, if they will not."""

    @property
    def is_over(self) -> bool:
        """Whether they are not missing any more."""
        return self.came_ms is not None or self.given_up is not None
