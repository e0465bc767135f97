"""Candles of every interval, aggregated from a market's 1m candles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from attrs import define, field

from klineagent.twin.interval import SECOND_MS, TwinInterval
from klineagent.twin.market.candle import Candle, grown, merge, second_of
from klineagent.twin.market.market import Listing, Market

# Each interval is aggregated from one that divides it, so that a year of days is not read minute by
# minute twice. Minutes are what markets have, and seconds are parts of them.
_PART = {
    TwinInterval.M3: TwinInterval.M1,
    TwinInterval.M5: TwinInterval.M1,
    TwinInterval.M15: TwinInterval.M5,
    TwinInterval.M30: TwinInterval.M15,
    TwinInterval.H1: TwinInterval.M30,
    TwinInterval.H2: TwinInterval.H1,
    TwinInterval.H4: TwinInterval.H2,
    TwinInterval.H6: TwinInterval.H2,
    TwinInterval.H8: TwinInterval.H4,
    TwinInterval.H12: TwinInterval.H4,
    TwinInterval.D1: TwinInterval.H12,
    TwinInterval.D3: TwinInterval.D1,
    TwinInterval.W1: TwinInterval.D1,
    TwinInterval.MO1: TwinInterval.D1,
}
# Some 400 bytes each; two days of 40 symbols at all intervals above 1m.
_CLOSED_KEPT = 131_072


@define
class Aggregator:
    """Makes candles of `market` at any interval, closed or forming.

    A candle without any 1m candle does not exist and is None.
    """

    market: Market
    _listings: dict[str, Listing] = field(init=False)
    _by_symbol: dict[str, dict[TwinInterval, _Source]] = field(init=False, factory=dict)
    _closed_candle: Callable[[_SeriesAggregator, int], Candle | None] = field(init=False)
    _grown: dict[str, tuple[int, Candle | None]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._listings = {listing.symbol: listing for listing in self.market.listings}
        self._closed_candle = lru_cache(maxsize=_CLOSED_KEPT)(_SeriesAggregator.draw)

    def whole(self, symbol: str, interval: TwinInterval, open_ms: int) -> Candle | None:
        """The closed candle that opened at `open_ms`."""
        return self._aggregator(symbol, interval).whole(open_ms)

    def forming(self, symbol: str, interval: TwinInterval, now_ms: int) -> Candle | None:
        """The candle that is forming at `now_ms`, in its state at that time.

        All trades of a second happen in its first millisecond.
        """
        if interval is TwinInterval.S1:
            return self.whole(symbol, interval, interval.open_at(now_ms))
        minute_open = TwinInterval.M1.open_at(now_ms)
        minute = self._growing(symbol, minute_open, now_ms)
        if interval is TwinInterval.M1:
            return minute
        candle = merge(self._aggregator(symbol, interval).so_far(minute_open), minute)
        return _opening_at(interval.open_at(now_ms), candle)

    def between(
        self, symbol: str, interval: TwinInterval, first_ms: int, last_ms: int, now_ms: int
    ) -> Iterator[Candle]:
        """Yield candles with open times from `first_ms` to `last_ms`, up to `now_ms`, ascending.

        The one that is forming at `now_ms` comes in its state at that time. A symbol that does not
        trade has no candles.
        """
        listing = self._listings.get(symbol)
        if listing is None:
            return
        forming_open = interval.open_at(now_ms)
        last_ms = min(last_ms, forming_open)
        # Nothing opened before the listing; requests for years before it need not iterate.
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

    def _growing(self, symbol: str, minute_open: int, now_ms: int) -> Candle | None:
        # All intervals of a symbol share the forming minute.
        asked, minute = self._grown.get(symbol, (-1, None))
        if asked == now_ms:
            return minute
        minute = self.market.minute(symbol, minute_open)
        if minute is not None:
            # The first millisecond has passed by the time anything is sent.
            minute = grown(minute, max(1, now_ms - minute_open))
        self._grown[symbol] = now_ms, minute
        return minute

    def _aggregator(self, symbol: str, interval: TwinInterval) -> _Source:
        aggregators = self._by_symbol.get(symbol)
        if aggregators is None:
            aggregators = self._by_symbol[symbol] = self._aggregators_of(symbol)
        return aggregators[interval]

    def _aggregators_of(self, symbol: str) -> dict[TwinInterval, _Source]:
        aggregators: dict[TwinInterval, _Source] = {
            TwinInterval.S1: _SecondSource(symbol=symbol, market=self.market),
            TwinInterval.M1: _MinuteSource(symbol=symbol, market=self.market),
        }
        for interval, part in _PART.items():
            aggregators[interval] = _SeriesAggregator(
                interval=interval,
                parts=aggregators[part],
                onboard_ms=self._listings[symbol].onboard_ms,
                closed_candle=self._closed_candle,
            )
        return aggregators


@define(kw_only=True, eq=False)
class _MinuteSource:
    """One symbol's 1m candles."""

    interval: TwinInterval = field(init=False, default=TwinInterval.M1)
    _symbol: str
    _market: Market

    def whole(self, open_ms: int) -> Candle | None:
        return self._market.minute(self._symbol, open_ms)

    def so_far(self, _minute_open: int) -> None:
        """None: a minute has no closed parts."""


@define(kw_only=True, eq=False)
class _SecondSource(_MinuteSource):
    """One symbol's 1s candles, which are parts of its 1m candles."""

    interval: TwinInterval = field(init=False, default=TwinInterval.S1)

    def whole(self, open_ms: int) -> Candle | None:
        minute_open = TwinInterval.M1.open_at(open_ms)
        minute = self._market.minute(self._symbol, minute_open)
        return minute and second_of(minute, (open_ms - minute_open) // SECOND_MS)


@define(kw_only=True, eq=False)
class _SeriesAggregator:
    """One symbol at one interval."""

    interval: TwinInterval
    _parts: _Source
    _onboard_ms: int
    _closed_candle: Callable[[_SeriesAggregator, int], Candle | None]
    # The forming candle's closed parts, merged up to `_until_ms`.
    _open_ms: int = field(init=False, default=-1)
    _until_ms: int = field(init=False, default=-1)
    _closed: Candle | None = field(init=False, default=None)
    # The last query and its answer: longer intervals ask for the same.
    _asked: int = field(init=False, default=-1)
    _answer: Candle | None = field(init=False, default=None)

    def whole(self, open_ms: int) -> Candle | None:
        """The closed candle that opened at `open_ms`, from the cache if possible."""
        return self._closed_candle(self, open_ms)

    def draw(self, open_ms: int) -> Candle | None:
        """Aggregate the closed candle that opened at `open_ms`."""
        end_ms = self.interval.next_open(open_ms)
        if end_ms <= self._onboard_ms:
            return None
        return _opening_at(open_ms, self._extended(None, open_ms, end_ms))

    def so_far(self, minute_open: int) -> Candle | None:
        """The merged minutes from the candle's open up to `minute_open`."""
        if self._asked != minute_open:
            closed = self._closed_parts(self._parts.interval.open_at(minute_open))
            self._answer = merge(closed, self._parts.so_far(minute_open))
            self._asked = minute_open
        return self._answer

    def _closed_parts(self, until_ms: int) -> Candle | None:
        """The merged parts from the candle's open up to `until_ms`, the open time of a part."""
        open_ms = self.interval.open_at(until_ms)
        if open_ms != self._open_ms or until_ms < self._until_ms:
            self._open_ms = self._until_ms = open_ms
            self._closed = None
        self._closed = self._extended(self._closed, self._until_ms, until_ms)
        self._until_ms = until_ms
        return self._closed

    def _extended(self, candle: Candle | None, start_ms: int, end_ms: int) -> Candle | None:
        """`candle` and the parts that open in [start, end)."""
        next_open = self._parts.interval.next_open
        while start_ms < end_ms:
            candle = merge(candle, self._parts.whole(start_ms))
            start_ms = next_open(start_ms)
        return candle


def _opening_at(open_ms: int, candle: Candle | None) -> Candle | None:
    """Give `candle` the open time of its interval, even if its first minutes are missing."""
    if candle is None or candle.open_time == open_ms:
        return candle
    return candle._replace(open_time=open_ms)


_Source = _MinuteSource | _SeriesAggregator
