"""A made-up market: every candle is a function of (seed, symbol, minute).

Nothing is simulated forward. Price and trade count at full minutes are functions of time, and a
candle lies between two of them. So neighbours fit together (each opens at the last close, trade ids
continue), and any candle costs the same, whether next or a year away.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from itertools import islice

from attrs import define, field, frozen

from klineagent.twin.interval import DAY_MS, MINUTE_MS
from klineagent.twin.market.candle import Candle, flat
from klineagent.twin.market.listings import Coin, coins, list_coin, odd_trading_listings
from klineagent.twin.market.market import Listing

# The price is a sum of smooth noises: (minutes between knots, amplitude of the log price).
_WAVES = ((2, 0.0008), (30, 0.003), (400, 0.012), (6_000, 0.04))
_WICK = 0.0006  # how far high and low may reach beyond open and close
_TRADES_PER_MINUTE = 200
_QUIET_EVERY = 3  # each third symbol has quiet minutes
_QUIET_SHARE = 5  # about each fifth minute of these
_TURNOVER = 60_000  # about so many dollars a minute
_DRAW_SPAN = 2**32
# Kinds of random draws; the knots of waves are numbered from _FIRST_WAVE on.
_QUIET, _COUNT, _SHAPE, _FIRST_WAVE = range(4)
# Two minutes of each of a thousand symbols are in use at a time. The rest is for scans of history:
# two days of 40 symbols, or 60 MB.
_MINUTES_KEPT = 131_072
_EDGES_KEPT = 4_096
_QUESTION, _ANSWER = struct.Struct("<qq"), struct.Struct("<4I")


@define(kw_only=True)
class RandomMarket:
    """A market of `symbols` coins and a few odd listings; see `Market`.

    Two markets of a venue with the same seed agree in every candle they both have. Symbols are
    listed `history_ms` before `start_ms`; the market never ends.
    """

    symbols: int
    seed: int
    start_ms: int
    venue_name: str = "usdm"
    history_ms: int = DAY_MS
    listings: tuple[Listing, ...] = field(init=False)
    end_ms: None = field(init=False, default=None)
    tick_ms: None = field(init=False, default=None)
    _walks: dict[str, _Walk] = field(init=False)
    _drawn: Callable[[str, int], Candle] = field(init=False)

    def __attrs_post_init__(self) -> None:
        onboard_ms = (self.start_ms - self.history_ms) // MINUTE_MS * MINUTE_MS
        ordinary = [
            (coin, list_coin(coin, self.venue_name, onboard_ms), number % _QUIET_EVERY == 0)
            for number, coin in enumerate(islice(coins(), self.symbols), start=1)
        ]
        odd = [
            (coin, listing, False)
            for coin, listing in odd_trading_listings(self.venue_name, onboard_ms, self.start_ms)
        ]
        self._walks = {
            listing.symbol: _Walk(
                key=self._key(listing.symbol),
                coin=coin,
                listing=listing,
                has_quiet_minutes=is_quiet,
            )
            for coin, listing, is_quiet in ordinary + odd
        }
        self.listings = tuple(walk.listing for walk in self._walks.values())
        self._drawn = lru_cache(maxsize=_MINUTES_KEPT)(self._draw)

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """See `Market`."""
        walk = self._walks.get(symbol)
        if walk is None or not walk.listing.onboard_ms <= open_ms < walk.listing.delivery_ms:
            return None
        return self._drawn(symbol, open_ms // MINUTE_MS)

    def _key(self, symbol: str) -> bytes:
        # The same symbol trades at other prices on another venue, so that none is taken for it.
        name = f"{self.seed}/{self.venue_name}/{symbol}"
        return blake2b(name.encode(), digest_size=16).digest()

    def _draw(self, symbol: str, minute: int) -> Candle:
        return self._walks[symbol].candle(minute)


@frozen(kw_only=True, eq=False)
class _Walk:
    """One symbol's course; minutes and the edges between them are counted from the epoch."""

    key: bytes
    coin: Coin
    listing: Listing
    has_quiet_minutes: bool
    _prices: int = field(init=False)
    _quantities: int = field(init=False)
    _surplus: int = field(init=False)
    _price_step: int = field(init=False)
    _quantity_step: int = field(init=False)
    _dice: _Dice = field(init=False)
    _waves: tuple[_Wave, ...] = field(init=False)

    # Powers that each candle needs more than once.

    @_prices.default
    def _scale_prices(self) -> int:
        return int(10**self.listing.price_places)

    @_quantities.default
    def _scale_quantities(self) -> int:
        return int(10**self.listing.quantity_places)

    @_surplus.default
    def _scale_surplus(self) -> int:
        """By how much a price times a quantity exceeds the scale of turnovers."""
        listing = self.listing
        surplus = listing.price_places + listing.quantity_places - listing.quote_places
        return int(10 ** max(0, surplus))

    @_dice.default
    def _key_dice(self) -> _Dice:
        return _Dice(blake2b(digest_size=16, key=self.key))

    @_waves.default
    def _draw_waves(self) -> tuple[_Wave, ...]:
        return tuple(
            _Wave(self._dice, number, span, size)
            for number, (span, size) in enumerate(_WAVES, start=_FIRST_WAVE)
        )

    @_price_step.default
    def _scale_price_step(self) -> int:
        return int(10 ** (self.listing.price_places - self.coin.price_step_places))

    @_quantity_step.default
    def _scale_quantity_step(self) -> int:
        if self.listing.contract_size:
            return 1
        return int(10 ** (self.listing.quantity_places - self.coin.quantity_step_places))

    def candle(self, minute: int) -> Candle:
        """The closed candle of `minute`."""
        opened, first_trade = _edge(self, minute)
        closed, next_trade = _edge(self, minute + 1)
        if first_trade == next_trade:
            return flat(minute * MINUTE_MS, opened)
        up, down, size, side = self._dice.draws(_SHAPE, minute)
        step = self._price_step
        high = max(opened, closed) + _wick(opened, up) // step * step
        low = max(step, min(opened, closed) - _wick(opened, down) // step * step)
        average = (opened + high + low + closed) // 4
        volume = self._volume(opened, size)
        taker_volume = volume * side // _DRAW_SPAN // self._quantity_step * self._quantity_step
        return Candle(
            minute * MINUTE_MS,
            opened,
            high,
            low,
            closed,
            volume,
            self._turnover(volume, average),
            next_trade - first_trade,
            taker_volume,
            self._turnover(taker_volume, average),
            first_trade,
            next_trade - 1,
        )

    def is_quiet(self, minute: int) -> bool:
        """Whether there are no trades in `minute`."""
        return self.has_quiet_minutes and not self._dice.draws(_QUIET, minute)[0] % _QUIET_SHARE

    def trades_before(self, edge: int) -> int:
        """Trades since the epoch: a steady pace plus a smaller jitter, so the count never falls."""
        jitter = self._dice.draws(_COUNT, edge)[0] % _TRADES_PER_MINUTE
        return edge * _TRADES_PER_MINUTE + jitter

    def price(self, edge: int) -> int:
        """The price of the last trade before `edge`."""
        swing = 0.0
        for wave in self._waves:
            swing += wave.height(edge)
        steps: float = self.coin.price * math.exp(swing) * 10**self.coin.price_step_places
        return max(1, round(steps)) * self._price_step

    def _volume(self, price: int, draw: int) -> int:
        """Volume of one minute: a turnover in dollars as whole steps, at least one."""
        dollars = _TURNOVER * (1 + 3 * draw / _DRAW_SPAN)
        unit = self.listing.contract_size or price / self._prices
        scaled = int(dollars / unit * self._quantities)
        return max(1, scaled // self._quantity_step) * self._quantity_step

    def _turnover(self, volume: int, price: int) -> int:
        """The value of `volume` in quote currency, or in the base asset on COIN-M."""
        listing = self.listing
        if listing.contract_size:
            dollars = volume * listing.contract_size * 10**listing.price_places
            return int(dollars * 10**listing.quote_places // price)
        return volume * price // self._surplus


def _wick(price: int, draw: int) -> int:
    return int(price * _WICK * draw / _DRAW_SPAN)


@frozen(eq=False)
class _Dice:
    """One symbol's random numbers."""

    _keyed: blake2b

    def draws(self, what: int, number: int) -> tuple[int, int, int, int]:
        """Four integers in [0, 2**32), always the same for the same arguments."""
        question = self._keyed.copy()
        question.update(_QUESTION.pack(what, number))
        first, second, third, fourth = _ANSWER.unpack(question.digest())
        return first, second, third, fourth


@define(eq=False)
class _Wave:
    """Smooth noise: drawn at knots that are `_span` minutes apart, eased between them."""

    _dice: _Dice
    _number: int
    _span: int
    _size: float
    # The stretch that was asked for last; markets are mostly asked for minutes in their order.
    _knot: int = field(init=False, default=-2)
    _before: float = field(init=False, default=0.0)
    _after: float = field(init=False, default=0.0)

    def height(self, edge: int) -> float:
        """Its value, up to `_size` above or below zero."""
        place = edge / self._span
        knot = int(place)
        if knot != self._knot:
            self._before = self._after if knot == self._knot + 1 else self._draw(knot)
            self._after = self._draw(knot + 1)
            self._knot = knot
        rest = place - knot
        before = self._before
        return self._size * (before + (self._after - before) * (rest * rest * (3 - 2 * rest)))

    def _draw(self, knot: int) -> float:
        return self._dice.draws(self._number, knot)[0] / _DRAW_SPAN * 2 - 1


@lru_cache(maxsize=_EDGES_KEPT)
def _edge(walk: _Walk, edge: int) -> tuple[int, int]:
    """Price and trade count at the edge between two minutes; quiet minutes change neither."""
    if walk.is_quiet(edge - 1):
        return _edge(walk, edge - 1)
    return walk.price(edge), walk.trades_before(edge)
