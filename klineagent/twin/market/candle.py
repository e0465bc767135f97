"""Candles as integers, so that merging and printing are exact.

A price of 10.1130 on a symbol with four decimal places is the integer 101130, and likewise for
volumes. So a sum over a year of minutes has no rounding and prints like the exchange's own.
"""

from __future__ import annotations

from typing import NamedTuple

from klineagent.twin.interval import MINUTE_MS, SECOND_MS

NO_TRADE = -1
"""First and last trade id of a candle without trades."""


class Candle(NamedTuple):
    """The trades of a time span; prices and volumes are scaled integers, times milliseconds."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int
    taker_volume: int
    taker_quote_volume: int
    first_trade: int
    last_trade: int


def flat(open_time: int, price: int) -> Candle:
    """Make the candle of a span without trades, at the last price before it."""
    return Candle(open_time, price, price, price, price, 0, 0, 0, 0, 0, NO_TRADE, NO_TRADE)


def merge(earlier: Candle | None, later: Candle | None) -> Candle | None:
    """Merge two consecutive candles; None stands for a span without a candle.

    Only trades make prices: a flat candle does not widen the range of one with trades.
    """
    if earlier is None or later is None:
        return earlier or later
    if not later.trades:
        return earlier
    if not earlier.trades:
        return later._replace(open_time=earlier.open_time)
    return Candle(
        earlier.open_time,
        earlier.open,
        max(earlier.high, later.high),
        min(earlier.low, later.low),
        later.close,
        earlier.volume + later.volume,
        earlier.quote_volume + later.quote_volume,
        earlier.trades + later.trades,
        earlier.taker_volume + later.taker_volume,
        earlier.taker_quote_volume + later.taker_quote_volume,
        earlier.first_trade,
        later.last_trade,
    )


def grown(minute: Candle, elapsed_ms: int) -> Candle:
    """The state of a 1m candle `elapsed_ms` after its open, 0 < `elapsed_ms` <= a minute.

    States are consistent over time: counts, volumes and the high never fall, the low never rises,
    and after the full minute the state is the candle itself.
    """
    if not minute.trades:
        return minute
    trades = _share(minute.trades, elapsed_ms)
    high, low, price = _walk(minute, elapsed_ms)
    return Candle(
        minute.open_time,
        minute.open,
        high,
        low,
        price,
        _share(minute.volume, elapsed_ms),
        _share(minute.quote_volume, elapsed_ms),
        trades,
        _share(minute.taker_volume, elapsed_ms),
        _share(minute.taker_quote_volume, elapsed_ms),
        minute.first_trade,
        # Trade ids on futures have gaps, so the last one is known only at the end.
        min(minute.last_trade, minute.first_trade + trades - 1)
        if elapsed_ms < MINUTE_MS
        else minute.last_trade,
    )


def _share(total: int, elapsed_ms: int) -> int:
    """The part of `total` reached so far, rounded up so that the first trade counts at once."""
    return -(-total * elapsed_ms // MINUTE_MS)


def second_of(minute: Candle, number: int) -> Candle:
    """The 1s candle of second `number`, from 0 on, of a 1m candle: they merge to the minute."""
    open_time = minute.open_time + number * SECOND_MS
    before, after = (_share(minute.trades, each * SECOND_MS) for each in (number, number + 1))
    since_ms, until_ms = _path_ms(minute, before), _path_ms(minute, after)
    opened, closed = _price(minute, since_ms), _price(minute, until_ms)
    if before == after:
        return flat(open_time, opened)
    passed = [opened, *_corners_between(minute, since_ms, until_ms), closed]
    taker, taker_quote, maker, maker_quote = (
        _share(total, until_ms) - _share(total, since_ms)
        for total in (
            minute.taker_volume,
            minute.taker_quote_volume,
            # Rounded apart, so that in no second more is taken than traded.
            minute.volume - minute.taker_volume,
            minute.quote_volume - minute.taker_quote_volume,
        )
    )
    return Candle(
        open_time,
        opened,
        max(passed),
        min(passed),
        closed,
        taker + maker,
        taker_quote + maker_quote,
        after - before,
        taker,
        taker_quote,
        minute.first_trade + before,
        minute.last_trade if after == minute.trades else minute.first_trade + after - 1,
    )


def _path_ms(minute: Candle, traded: int) -> int:
    """How far the minute's path has come at the end of the second of its trade `traded`.

    The last trade ends the path, so that no price is left for seconds without trades.
    """
    if traded == minute.trades:
        return MINUTE_MS
    return (MINUTE_MS // SECOND_MS * (traded - 1) // minute.trades + 1) * SECOND_MS if traded else 0


def _walk(minute: Candle, elapsed_ms: int) -> tuple[int, int, int]:
    """High, low and price so far, on a path from the open over both extremes to the close."""
    price = _price(minute, elapsed_ms)
    seen = (minute.open, *_corners_between(minute, 0, elapsed_ms), price)
    return max(seen), min(seen), price


def _corners(minute: Candle) -> tuple[int, int, int, int]:
    rises = minute.close >= minute.open
    first, second = (minute.low, minute.high) if rises else (minute.high, minute.low)
    return minute.open, first, second, minute.close


def _corners_between(minute: Candle, since_ms: int, until_ms: int) -> tuple[int, ...]:
    """Both extremes, as far as the path passes them after `since_ms` and up to `until_ms`."""
    legs = since_ms * 3 // MINUTE_MS, until_ms * 3 // MINUTE_MS
    return _corners(minute)[legs[0] + 1 : legs[1] + 1]


def _price(minute: Candle, elapsed_ms: int) -> int:
    """The price on the path after `elapsed_ms`."""
    corners = _corners(minute)
    leg, into_leg = divmod(elapsed_ms * 3, MINUTE_MS)
    if leg == len(corners) - 1:
        return minute.close
    start, end = corners[leg : leg + 2]
    return start + (end - start) * into_leg // MINUTE_MS


def to_text(scaled: int, places: int) -> str:
    """Format a scaled integer as the exchange does, with all decimal places."""
    digits = str(scaled)
    if not places:
        return digits
    if len(digits) <= places:
        digits = digits.zfill(places + 1)
    return f"{digits[:-places]}.{digits[-places:]}"


def from_text(text: str, places: int) -> int:
    """Parse a decimal with at most `places` decimal places into a scaled integer.

    Raises:
        ValueError: `text` is not such a decimal.
    """
    whole, _, fraction = text.partition(".")
    if len(fraction) > places:
        raise ValueError(f"{text} has more than {places} decimal places")
    return int(whole + fraction.ljust(places, "0"))
