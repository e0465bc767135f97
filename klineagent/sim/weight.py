"""Request weight per UTC clock minute, and what becomes of those who exceed it. Pure."""

from __future__ import annotations

from attrs import define

from klineagent.sim.interval import DAY_MS, MINUTE_MS, SECOND_MS, Interval
from klineagent.sim.venue import BANNED, TOO_MANY_REQUESTS

# Not published: how many answers 429 in a row it takes. The first ban lasts two minutes, the
# longest three days; that they double in between is assumed.
_REFUSALS_UNTIL_BAN = 5
_FIRST_BAN_MS = 2 * MINUTE_MS
_LONGEST_BAN_MS = 3 * DAY_MS


@define
class WeightMeter:
    """What one address has spent in the exchange's current minute."""

    limit: int
    used: int = 0
    banned_until_ms: int = 0
    _minute: int = 0
    _refusals: int = 0
    _next_ban_ms: int = _FIRST_BAN_MS

    def spend(self, weight: int, now_ms: int) -> int | None:
        """Spend `weight`; None if it was there, else the status to refuse with: 429 or 418."""
        if now_ms < self.banned_until_ms:
            return BANNED
        minute = Interval.M1.open_at(now_ms)
        if minute != self._minute:
            self._minute = minute
            self.used = self._refusals = 0
        self.used += weight
        if self.used <= self.limit:
            return None
        self._refusals += 1
        if self._refusals <= _REFUSALS_UNTIL_BAN:
            return TOO_MANY_REQUESTS
        self.banned_until_ms = now_ms + self._next_ban_ms
        self._next_ban_ms = min(2 * self._next_ban_ms, _LONGEST_BAN_MS)
        return BANNED

    def retry_after_s(self, now_ms: int) -> int:
        """Whole seconds until the ban, or else the minute, is over; at least one."""
        end_ms = max(self.banned_until_ms, self._minute + MINUTE_MS)
        return max(1, -(-(end_ms - now_ms) // SECOND_MS))
