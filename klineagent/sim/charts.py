"""Charts: candles of every interval, drawn from a market's 1m candles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from attrs import define, field

from klineagent.kline import MINUTE_MS, Interval
from klineagent.sim.candle import Candle, grown, merge
from klineagent.sim.market import Listing, Market

# Each interval is put together from one that divides it, so that a year of days is not read
# minute by minute twice. 1s has no parts here: the twin knows minutes only.
_PART = {
    Interval.M3: Interval.M1,
    Interval.M5: Interval.M1,
    Interval.M15: Interval.M5,
    Interval.M30: Interval.M15,
    Interval.H1: Interval.M30,
    Interval.H2: Interval.H1,
    Interval.H4: Interval.H2,
    Interval.H6: Interval.H2,
    Interval.H8: Interval.H4,
    Interval.H12: Interval.H4,
    Interval.D1: Interval.H12,
    Interval.D3: Interval.D1,
    Interval.W1: Interval.D1,
    Interval.MO1: Interval.D1,
}
# Some 400 bytes each; a month of hours of twenty symbols.
_CLOSED_KEPT = 16_384


@define
class Charts:
    """Every candle of `market`, whole or as far as it has grown.

    A candle without a single 1m candle below it does not exist and is None.
    """

    market: Market
    _listings: dict[str, Listing] = field(init=False)
    _whole: Callable[[str, Interval, int], Candle | None] = field(init=False)
    # Live candles grow minute by minute: what there was up to the minute asked for last.
    _until: dict[tuple[str, Interval], tuple[int, Candle | None]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._listings = {listing.symbol: listing for listing in self.market.listings}
        self._whole = lru_cache(maxsize=_CLOSED_KEPT)(self._draw_whole)

    def whole(self, symbol: str, interval: Interval, open_ms: int) -> Candle | None:
        """The finished candle that opened at `open_ms`."""
        if interval is Interval.M1:
            return self.market.minute(symbol, open_ms)
        return self._whole(symbol, interval, open_ms)

    def forming(self, symbol: str, interval: Interval, now_ms: int) -> Candle | None:
        """The candle that is open at `now_ms`, as it looks then."""
        minute_open = Interval.M1.open_at(now_ms)
        minute = self.market.minute(symbol, minute_open)
        if minute is not None:
            # The first millisecond has passed by the time anything is sent.
            minute = grown(minute, max(1, now_ms - minute_open))
        if interval is Interval.M1:
            return minute
        candle = merge(self._so_far(symbol, interval, minute_open), minute)
        return _opening_at(interval.open_at(now_ms), candle)

    def between(
        self, symbol: str, interval: Interval, first_ms: int, last_ms: int, now_ms: int
    ) -> Iterator[Candle]:
        """Candles with open times from `first_ms` to `last_ms` and not after `now_ms`, ascending.

        The one that is open at `now_ms` comes as it looks then. A symbol that does not trade has
        none.
        """
        listing = self._listings.get(symbol)
        if listing is None:
            return
        forming_open = interval.open_at(now_ms)
        last_ms = min(last_ms, forming_open)
        # Nothing opened before the symbol was listed; who asks for years need not wait for them.
        first_ms = max(first_ms, interval.open_at(listing.onboard_ms))
        open_ms = interval.open_at(first_ms)
        if open_ms < first_ms:
            open_ms = interval.next_open(open_ms)
        while open_ms <= last_ms:
            is_forming = open_ms == forming_open
            candle = (
                self.forming(symbol, interval, now_ms)
                if is_forming
                else self.whole(symbol, interval, open_ms)
            )
            if candle is not None:
                yield candle
            open_ms = interval.next_open(open_ms)

    def _so_far(self, symbol: str, interval: Interval, minute_open: int) -> Candle | None:
        """The merged minutes from the candle's open up to `minute_open`."""
        open_ms = interval.open_at(minute_open)
        if open_ms == minute_open:
            return None
        until, candle = self._until.get((symbol, interval), (0, None))
        previous = minute_open - MINUTE_MS
        if until == previous >= open_ms:
            candle = merge(candle, self.market.minute(symbol, previous))
        elif until != minute_open:
            candle = self._draw(symbol, interval, open_ms, minute_open)
        self._until[symbol, interval] = (minute_open, candle)
        return candle

    def _draw_whole(self, symbol: str, interval: Interval, open_ms: int) -> Candle | None:
        candle = self._draw(symbol, interval, open_ms, interval.next_open(open_ms))
        return _opening_at(open_ms, candle)

    def _draw(self, symbol: str, interval: Interval, start: int, end: int) -> Candle | None:
        """The merged minutes of [start, end), which lie within one candle of `interval`."""
        if end <= self._listings[symbol].onboard_ms:
            return None
        part = _PART[interval]
        candle = None
        while start < end:
            part_end = part.next_open(start)
            if part_end <= end:
                piece = self.whole(symbol, part, start)
            else:
                piece = self._draw(symbol, part, start, end)
            candle = merge(candle, piece)
            start = part_end
        return candle


def _opening_at(open_ms: int, candle: Candle | None) -> Candle | None:
    """`candle` with the open time of its interval, also where its first minutes are missing."""
    return candle and candle._replace(open_time=open_ms)
