"""The grid of open times, as the exchange documents it.

Deliberately not taken from `klineagent.core.interval`: a wrong grid there must not be confirmed by
the same error here. It is computed differently: lengths come from names, days from `datetime`.
"""

from __future__ import annotations

import enum
from datetime import date, timedelta
from functools import lru_cache

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

_EPOCH = date(1970, 1, 1)
_MS_OF_UNIT = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS}
# Years of days, each of four intervals.
_DAYS_KEPT = 8_192


class TwinInterval(enum.Enum):
    """A candle's length by its name: a number of seconds, minutes, hours, days, weeks, or months.

    Up to hours they count from midnight UTC, days from 1970 on; weeks begin on Mondays, months on
    the 1st.
    """

    S1 = "1s"
    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"
    D3 = "3d"
    W1 = "1w"
    MO1 = "1M"

    def __init__(self, name: str) -> None:
        self._number, self._unit = int(name[:-1]), name[-1]
        self._within_day_ms = self._number * _MS_OF_UNIT.get(self._unit, 0)

    def __str__(self) -> str:
        return self.value

    def open_at(self, time_ms: int) -> int:
        """Open time of the candle that contains `time_ms`."""
        if self._within_day_ms:
            return time_ms - time_ms % DAY_MS % self._within_day_ms
        return _days_of(self._unit, self._number, time_ms // DAY_MS)[0] * DAY_MS

    def next_open(self, open_ms: int) -> int:
        """Open time of the candle after the one that opened at `open_ms`."""
        if self._within_day_ms:
            return open_ms + self._within_day_ms
        return _days_of(self._unit, self._number, open_ms // DAY_MS)[1] * DAY_MS

    def close_of(self, open_ms: int) -> int:
        """Close time (last millisecond) of the candle that opened at `open_ms`."""
        return self.next_open(open_ms) - 1


@lru_cache(maxsize=_DAYS_KEPT)
def _days_of(unit: str, number: int, day: int) -> tuple[int, int]:
    """Days since 1970 on which the candle that contains `day` opens, and the next one."""
    today = _EPOCH + timedelta(days=day)
    match unit:
        case "d":
            first = today - timedelta(days=day % number)
            after = first + timedelta(days=number)
        case "w":
            first = today - timedelta(days=today.weekday())
            after = first + timedelta(weeks=1)
        case _:
            first = today.replace(day=1)
            after = (first + timedelta(days=31)).replace(day=1)
    return (first - _EPOCH).days, (after - _EPOCH).days
