"""Whether a streamed candle fits itself: its names, times, prices, volumes and trades. Pure.

The stream is trusted only where all of it is regular. A closing event that is not is dropped, so
the candle's deadline passes and REST is asked for it.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from math import inf

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.wire import NO_TRADE_ID, StreamedCandle

# Closing events are told half a minute late at times. One that says to be told much later is more
# likely of another candle, and the one it names has been fetched by then.
_LATEST_MS = 5 * MINUTE_MS
# The exchange sums what takers bought apart from the total; both may be rounded.
_ROUNDING = 1 + 1e-9
# The candles of all intervals that form or close at one time, and late ones.
_OPEN_TIMES_AT_ONCE = 64


class Flaw(enum.StrEnum):
    """What is wrong with a frame."""

    UNREADABLE = "no JSON, no kline, a field is missing or of another type"
    SERIES = "stream, event and candle name different series"
    TIMES = "its open, close or event time is none of such a candle"
    FUTURE = "its event time is later than now"
    PRICES = "its prices are not in order: low, open and close, high"
    VOLUMES = "a volume is negative, not finite, or less than its part that takers bought"
    TRADES = "number of trades, trade ids and volume contradict each other"


def flaw_of(candle: StreamedCandle) -> Flaw | None:
    """What is wrong with `candle`, if anything is, as far as it tells by itself.

    A forming state may be told after the candle's close: no such state outranks a closed one.
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
    # Written so that NaN, of which every comparison is false, fits nowhere.
    elif not (0 <= k.l <= k.o <= k.h < inf and k.l <= k.c <= k.h and (k.l or not k.n)):
        flaw = Flaw.PRICES
    elif not (0 <= k.V <= k.v * _ROUNDING < inf and 0 <= k.Q <= k.q * _ROUNDING < inf):
        flaw = Flaw.VOLUMES
    # The number of trades is not compared with their ids: on futures these have gaps.
    elif (k.n == 0) != (k.v == 0) or k.f > k.L or (k.f == NO_TRADE_ID) != (k.L == NO_TRADE_ID):
        flaw = Flaw.TRADES
    return flaw


@lru_cache(_OPEN_TIMES_AT_ONCE)
def _close_of(interval_name: str, open_ms: int) -> int | None:
    """The close time of the candle that opens then; None if there is no such candle."""
    try:
        interval = Interval(interval_name)
    except ValueError:
        return None
    return interval.close_of(open_ms) if interval.open_at(open_ms) == open_ms else None
