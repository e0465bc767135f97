"""The symbols of a made-up market: well-known ones, generated ones, and odd listings."""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import count, product

from attrs import evolve, frozen

from klineagent.twin.interval import DAY_MS
from klineagent.twin.market.market import Listing
from klineagent.twin.market.quarterlies import quarterlies

SPOT_PLACES = 8
"""Spot prints every number with eight decimals, whatever the symbol's step sizes are."""
COINM_QUOTE_PLACES = 8

_SETTLED_MS = 1_738_314_000_000  # 2025-01-31 09:00Z


@frozen
class Coin:
    """An asset, its initial price in dollars, and the decimal places of its step sizes."""

    base: str
    price: float
    price_step_places: int
    quantity_step_places: int


_KNOWN = (
    Coin("BTC", 83_000, 2, 3),
    Coin("ETH", 2_600, 2, 3),
    Coin("SOL", 140, 4, 0),
    Coin("BNB", 850, 3, 2),
    Coin("XRP", 2.2, 4, 1),
    Coin("DOGE", 0.16, 6, 0),
    Coin("ADA", 0.55, 5, 0),
    Coin("AVAX", 19, 4, 0),
    Coin("LINK", 15, 3, 2),
    Coin("DOT", 3.1, 3, 1),
    Coin("LTC", 95, 2, 3),
    Coin("NEAR", 2.1, 4, 0),
    Coin("1000PEPE", 0.0065, 7, 0),
)
_GONE = Coin("OMG", 1, 4, 1)


def coins() -> Iterator[Coin]:
    """Yield the well-known coins, then generated ones for ever."""
    yield from _KNOWN
    letters = (word for n in count(2) for word in product(string.ascii_uppercase, repeat=n))
    for number, word in enumerate(letters):
        # Prices from 1 to 200, never the same twice in a row.
        yield Coin("Y" + "".join(word), 1 + number * 37 % 199, 4, 1)


def list_coin(coin: Coin, venue_name: str, onboard_ms: int) -> Listing:
    """Make the ordinary listing of `coin`: against USDT, or a perpetual on COIN-M."""
    if venue_name == "coinm":
        return Listing(
            symbol=f"{coin.base}USD_PERP",
            base=coin.base,
            quote="USD",
            price_places=coin.price_step_places,
            quantity_places=0,
            quote_places=COINM_QUOTE_PLACES,
            onboard_ms=onboard_ms,
            contract_size=100 if coin.base == "BTC" else 10,
        )
    spot = venue_name == "spot"
    price_places = SPOT_PLACES if spot else coin.price_step_places
    quantity_places = SPOT_PLACES if spot else coin.quantity_step_places
    return Listing(
        symbol=f"{coin.base}USDT",
        base=coin.base,
        quote="USDT",
        price_places=price_places,
        quantity_places=quantity_places,
        # The exact product of price and quantity; spot rounds it.
        quote_places=SPOT_PLACES if spot else price_places + quantity_places,
        onboard_ms=onboard_ms,
    )


def odd_trading_listings(
    venue_name: str, onboard_ms: int, start_ms: int
) -> tuple[tuple[Coin, Listing], ...]:
    """Odd listings that trade: quarterly contracts, a stock, a symbol in Chinese."""
    btc, tesla, chinese = _KNOWN[0], Coin("TSLA", 410, 2, 2), Coin("币安人生", 0.12, 5, 0)
    named = (chinese, list_coin(chinese, venue_name, onboard_ms))
    # Of a past that is long enough a delisted coin has a part.
    has_gone = onboard_ms < _SETTLED_MS <= start_ms
    gone = [(_GONE, _delisted(venue_name, onboard_ms))] if has_gone else []
    if venue_name == "spot":
        return (named, *gone)
    usual = list_coin(btc, venue_name, onboard_ms)
    ending = tuple((btc, each) for each in quarterlies(usual, start_ms))
    if venue_name == "coinm":
        return (*ending, *gone)
    stock = evolve(
        list_coin(tesla, venue_name, onboard_ms),
        contract_type="TRADIFI_PERPETUAL",
        underlying_type="EQUITY",
    )
    return (*ending, (tesla, stock), named, *gone)


def odd_idle_listings(venue_name: str, start_ms: int) -> tuple[Listing, ...]:
    """Odd listings that do not trade: one not listed yet, one delisted."""
    soon = list_coin(Coin("SOON", 1, 4, 0), venue_name, start_ms + 30 * DAY_MS)
    gone = _delisted(venue_name, onboard_ms=0)
    if venue_name == "spot":
        return (gone,)
    return (evolve(soon, status="PENDING_TRADING"), gone)


def _delisted(venue_name: str, onboard_ms: int) -> Listing:
    """The listing of a coin that is no longer traded."""
    status = "BREAK" if venue_name == "spot" else "SETTLING"
    listing = list_coin(_GONE, venue_name, onboard_ms)
    return evolve(listing, status=status, delivery_ms=_SETTLED_MS)
