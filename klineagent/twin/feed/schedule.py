"""The times at which the exchange sends events. Pure."""

from __future__ import annotations

from zlib import crc32

from attrs import frozen

from klineagent.twin.interval import MINUTE_MS, SECOND_MS, TwinInterval

# Closing events are dated 2 to 300 ms after T, the last millisecond of their candle, and sent
# together at the end of this span, before any event of the next candle.
_FIRST_CLOSING_MS = 2
_LAST_CLOSING_MS = 300


@frozen
class Moment:
    """The time of the next events: closing ones, or forming ones."""

    time_ms: int
    closes: bool


def next_moment(after_ms: int, tick_ms: int) -> Moment:
    """The first moment after `after_ms`.

    Ticks fall on odd multiples of half of `tick_ms`, so that none is on the edge of a minute; where
    that is whole minutes, in the middle of one.
    """
    closing = TwinInterval.M1.open_at(after_ms) + _LAST_CLOSING_MS - 1
    if closing <= after_ms:
        closing += MINUTE_MS
    phase = tick_ms // 2 if tick_ms % (2 * MINUTE_MS) else MINUTE_MS // 2
    tick = after_ms - (after_ms - phase) % tick_ms + tick_ms
    while tick % MINUTE_MS < _LAST_CLOSING_MS:
        tick += tick_ms
    return Moment(closing, closes=True) if closing < tick else Moment(tick, closes=False)


def next_second(after_ms: int) -> int:
    """The first moment after `after_ms` at which closing events of 1s candles are sent."""
    into_second = _LAST_CLOSING_MS - 1
    return TwinInterval.S1.open_at(after_ms - into_second + SECOND_MS) + into_second


def closing_time(symbol: str, close_ms: int) -> int:
    """The event time of a symbol's candles that close at `close_ms`."""
    spread = _LAST_CLOSING_MS - _FIRST_CLOSING_MS + 1
    return close_ms + _FIRST_CLOSING_MS + crc32(f"{symbol}{close_ms}".encode()) % spread
