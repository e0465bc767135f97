"""What files are made of: the candles of a venue's symbols, past and present. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from attrs import define, evolve, field, frozen

from klineagent.twin.archive.key import TwinFile
from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.market import Listing, Market

_TIMES_THE_PRICE = 3


@frozen
class Life:
    """The time in which a symbol was one coin; `until_ms` is not included."""

    aggregator: Aggregator
    since_ms: int
    until_ms: int


@define(kw_only=True, eq=False)
class TradedVenue:
    """A venue's market, and coins with symbols that others have now."""

    aggregator: Aggregator
    listings: Mapping[str, Listing] = field(init=False)
    """All there are and were, by symbol."""
    _earlier: dict[str, Life] = field(init=False, factory=dict)

    @listings.default
    def _by_symbol(self) -> Mapping[str, Listing]:
        return {each.symbol: each for each in self.aggregator.market.listings}

    @contextmanager
    def reusing(self, symbol: str, since_ms: int, until_ms: int) -> Iterator[None]:
        """Let `symbol` have been another coin's from `since_ms` on, before its own listing.

        REST knows nothing of it.

        Raises:
            ValueError: both coins traded at one time, or `symbol` has had another one already.
        """
        listing = self.listings[symbol]
        if not since_ms < until_ms <= listing.onboard_ms or symbol in self._earlier:
            raise ValueError(f"{symbol} has been this coin's since {listing.onboard_ms}")
        market = _EarlierCoin(self.aggregator.market, listing, since_ms, until_ms)
        self._earlier[symbol] = Life(Aggregator(market), since_ms, until_ms)
        try:
            yield
        finally:
            del self._earlier[symbol]

    def lives(self, symbol: str) -> list[Life]:
        """The lives of a symbol, ascending; none if there is no such symbol."""
        listing = self.listings.get(symbol)
        if listing is None:
            return []
        market = self.aggregator.market
        since_ms, until_ms = listing.onboard_ms, listing.delivery_ms
        if isinstance(market, EventfulMarket):
            since_ms, until_ms = market.life_ms(listing)
        if market.end_ms is not None:
            until_ms = min(until_ms, market.end_ms)
        lives = [Life(self.aggregator, since_ms, until_ms)]
        return [self._earlier[symbol], *lives] if symbol in self._earlier else lives

    def has(self, file: TwinFile) -> bool:
        """Whether anything in the time of a file was traded."""
        market = self.aggregator.market
        if isinstance(market, EventfulMarket) and market.halts_throughout(
            file.symbol, file.start_ms, file.end_ms
        ):
            return False
        return any(start_ms < end_ms for _, start_ms, end_ms in self._parts(file))

    def most_rows(self, file: TwinFile) -> int:
        """How many rows a whole file has."""
        next_open = file.interval.next_open
        return sum(
            -(-(end_ms - start_ms) // (next_open(start_ms) - start_ms))
            for _, start_ms, end_ms in self._parts(file)
            if start_ms < end_ms
        )

    def candles(self, file: TwinFile) -> Iterator[Candle]:
        """Yield the true candles of a file, ascending."""
        for aggregator, start_ms, end_ms in self._parts(file):
            whole = partial(aggregator.whole, file.symbol, file.interval)
            if file.interval is TwinInterval.M1:
                # By far the most: a month has 44,640 of them.
                whole = partial(aggregator.market.minute, file.symbol)
            open_ms = start_ms
            while open_ms < end_ms:
                candle = whole(open_ms)
                if candle is not None:
                    yield candle
                open_ms = file.interval.next_open(open_ms)

    def _parts(self, file: TwinFile) -> Iterator[tuple[Aggregator, int, int]]:
        """Yield where the rows of a file come from: the first open time, and the end."""
        for life in self.lives(file.symbol):
            # The first candle opens before the first trade.
            open_ms = file.interval.open_at(max(file.start_ms, life.since_ms))
            if open_ms < file.start_ms:
                open_ms = file.interval.next_open(open_ms)
            yield life.aggregator, open_ms, min(file.end_ms, life.until_ms)


@frozen
class _EarlierCoin:
    """The market of a coin that is gone: the candles of a later time, at another price."""

    _market: Market
    _later: Listing
    _since_ms: int
    _until_ms: int

    @property
    def listings(self) -> tuple[Listing, ...]:
        """See `Market`."""
        return (evolve(self._later, onboard_ms=self._since_ms, delivery_ms=self._until_ms),)

    @property
    def start_ms(self) -> int:
        """See `Market`."""
        return self._since_ms

    @property
    def end_ms(self) -> int | None:
        """See `Market`."""
        return self._until_ms

    @property
    def tick_ms(self) -> int | None:
        """See `Market`."""
        return None

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """See `Market`."""
        if not self._since_ms <= open_ms < self._until_ms:
            return None
        candle = self._market.minute(symbol, open_ms + self._later.onboard_ms - self._since_ms)
        if candle is None:
            return None
        return candle._replace(
            open_time=open_ms,
            open=candle.open * _TIMES_THE_PRICE,
            high=candle.high * _TIMES_THE_PRICE,
            low=candle.low * _TIMES_THE_PRICE,
            close=candle.close * _TIMES_THE_PRICE,
            quote_volume=candle.quote_volume * _TIMES_THE_PRICE,
            taker_quote_volume=candle.taker_quote_volume * _TIMES_THE_PRICE,
        )
