"""Consistency checks of a streamed candle: names, times, prices, volumes and trades. Pure.

An event is trusted only if it passes all checks. A closing event that does not is dropped; the
candle's deadline passes, and REST fetches the candle.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from math import inf

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.wire import NO_TRADE_ID, StreamedCandle

# Closing events come half a minute late at times. An event time much later than the close more
# likely belongs to another candle, and the candle it names has been fetched by then.
_LATEST_MS = 5 * MINUTE_MS
# The exchange sums the takers' volume apart from the total, and may round both.
_ROUNDING = 1 + 1e-9
# Open times of candles that form or close at one time, in all intervals, and of late ones.
_OPEN_TIMES_AT_ONCE = 64


class Flaw(enum.StrEnum):
    """The flaw of a bad frame."""

    UNREADABLE = "no JSON, no kline, a field is missing or of another type"
    SERIES = "stream, event and candle name different series"
    TIMES = "its open, close or event time is none of such a candle"
    FUTURE = "its event time is later than now"
    PRICES = "its prices are not in order: low, open and close, high"
    VOLUMES = "a volume is negative, not finite, or less than its part that takers bought"
    TRADES = "number of trades, trade ids and volume contradict each other"


def flaw_of(candle: StreamedCandle) -> Flaw | None:
    """Return the first flaw of `candle` that shows without other data; None if it has none.

    A forming state may come after the candle's close: it never outranks a closed state.
    """
    event, k = candle.data, candle.data.k
    symbol = k.s
    flaw: Flaw | None = None
    if k.x is not True and k.x is not False:
        flaw = Flaw.UNREADABLE
    elif (
        candle.stream != f"{symbol.lower()}@kline_{k.i}"
        or event.s != symbol
        or symbol.upper() != symbol
    ):
        flaw = Flaw.SERIES
    elif (
        _close_of(k.i, k.t) != k.T
        or k.t > event.E
        or (k.x and not k.T < event.E <= k.T + _LATEST_MS)
    ):
        flaw = Flaw.TIMES
    # Written so that NaN fails the check: every comparison with NaN is false.
    elif not (0 <= k.l <= k.o <= k.h < inf and k.l <= k.c <= k.h and (k.l or not k.n)):
        flaw = Flaw.PRICES
    elif not (0 <= k.V <= k.v * _ROUNDING < inf and 0 <= k.Q <= k.q * _ROUNDING < inf):
        flaw = Flaw.VOLUMES
    # The number of trades is not compared with the trade ids: on futures these have gaps.
    elif (k.n == 0) != (k.v == 0) or k.f > k.L or (k.f == NO_TRADE_ID) != (k.L == NO_TRADE_ID):
        flaw = Flaw.TRADES
    return flaw


@lru_cache(_OPEN_TIMES_AT_ONCE)
def _close_of(interval_name: str, open_ms: int) -> int | None:
    """Return the close time of the candle that opens at `open_ms`; None if none opens then."""
    try:
        interval = Interval(interval_name)
    except ValueError:
        return None
    return interval.close_of(open_ms) if interval.open_at(open_ms) == open_ms else None
