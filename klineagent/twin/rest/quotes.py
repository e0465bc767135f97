"""The twin's order book and tickers, derived from candles: no orders are behind them. Pure.

The best bid is the last price, the best ask a step above it, each further level one step away.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from attrs import frozen

from klineagent.twin.interval import DAY_MS, HOUR_MS, MINUTE_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle, merge, to_text
from klineagent.twin.market.market import Listing

# A level has as much as is traded in about two seconds.
_LEVELS_A_MINUTE = 30


@frozen(kw_only=True)
class Quotes:
    """What `listing` is quoted at, at one time."""

    aggregator: Aggregator
    listing: Listing
    venue_name: str
    now_ms: int

    @property
    def _names(self) -> dict[str, Any]:
        names = {"symbol": self.listing.symbol}
        return names | {"pair": self.listing.pair} if self.venue_name == "coinm" else names

    @property
    def _stamps(self) -> dict[str, Any]:
        return {} if self.venue_name == "spot" else {"time": self.now_ms}

    @property
    def _last(self) -> Candle | None:
        """The newest minute, in its state of now; None if the symbol does not trade."""
        minutes = self._candles(TwinInterval.M1, self.now_ms - 2 * MINUTE_MS)
        return minutes[-1] if minutes else None

    def _candles(self, interval: TwinInterval, since_ms: int) -> list[Candle]:
        symbol, now_ms = self.listing.symbol, self.now_ms
        return list(self.aggregator.between(symbol, interval, since_ms, now_ms, now_ms))

    def depth(self, limit: int) -> dict[str, Any]:
        """The order book: at most `limit` levels a side, as no price is below one step."""
        book: dict[str, Any] = {"lastUpdateId": self.now_ms, "bids": [], "asks": []}
        if self.venue_name != "spot":
            book |= {"E": self.now_ms, "T": self.now_ms}
        if self.venue_name == "coinm":
            book |= self._names
        if (last := self._last) is not None:
            bids = range(last.close, max(0, last.close - limit), -1)
            asks = range(last.close + 1, last.close + 1 + limit)
            quantity = self._quantity(last)
            book["bids"] = [[self._price(price), quantity] for price in bids]
            book["asks"] = [[self._price(price), quantity] for price in asks]
        return book

    def ticker(self, endpoint: str) -> dict[str, Any] | None:
        """The answer of a ticker's endpoint; None if the symbol does not trade."""
        match endpoint:
            case "/ticker/price":
                return self.price()
            case "/ticker/bookTicker":
                return self.book_ticker()
        return self.day()

    def price(self) -> dict[str, Any] | None:
        """The last price."""
        last = self._last
        return last and self._names | {"price": self._price(last.close)} | self._stamps

    def book_ticker(self) -> dict[str, Any] | None:
        """The first level of the order book."""
        last = self._last
        return last and self._names | self._best(last) | self._stamps

    def day(self) -> dict[str, Any] | None:
        """The statistics of 24 hours, which begin on a full hour here."""
        listing, since_ms = self.listing, self.now_ms - DAY_MS + HOUR_MS
        hours = self._candles(TwinInterval.H1, TwinInterval.H1.open_at(since_ms))
        day = reduce(merge, hours, None)
        if day is None:
            return None
        change = day.close - day.open
        volume = to_text(day.volume, listing.quantity_places)
        turnover = to_text(day.quote_volume, listing.quote_places)
        ticker = self._names | {
            "priceChange": self._price(change),
            "priceChangePercent": f"{100 * change / day.open:.3f}",
            "weightedAvgPrice": self._price((day.high + day.low + day.close) // 3),
            "lastPrice": self._price(day.close),
            "lastQty": self._quantity(day),
            "openPrice": self._price(day.open),
            "highPrice": self._price(day.high),
            "lowPrice": self._price(day.low),
            "volume": volume,
            "baseVolume" if self.venue_name == "coinm" else "quoteVolume": turnover,
            "openTime": day.open_time,
            "closeTime": self.now_ms,
            "firstId": day.first_trade,
            "lastId": day.last_trade,
            "count": day.trades,
        }
        if self.venue_name == "spot":
            ticker |= {"prevClosePrice": self._price(day.open)} | self._best(day)
        return ticker

    def _best(self, candle: Candle) -> dict[str, Any]:
        quantity = self._quantity(candle)
        return {
            "bidPrice": self._price(candle.close),
            "bidQty": quantity,
            "askPrice": self._price(candle.close + 1),
            "askQty": quantity,
        }

    def _price(self, price: int) -> str:
        sign = "-" if price < 0 else ""
        return sign + to_text(abs(price), self.listing.price_places)

    def _quantity(self, minute: Candle) -> str:
        return to_text(max(1, minute.volume // _LEVELS_A_MINUTE), self.listing.quantity_places)
