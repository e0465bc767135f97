"""Klines as the exchange writes them in its REST answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from attrs import frozen

from klineagent.core.kline import Kline
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.exchange.venues import Venue

_LONG = re.compile(r"(?=[\d.]{17})\d+\.\d+")
# With eight decimals, the most there are.
LONG_FROM = 1e7


@frozen
class NumberFormats:
    """How the exchange writes the numbers of one symbol, as `%` formats."""

    price: str
    quantity: str
    quote: str
    """Of quote volumes; on COIN-M of base volumes."""

    @classmethod
    def of(cls, info: SymbolInfo | None, venue: Venue) -> NumberFormats:
        """Return those of a symbol; with unknown decimals numbers are as short as can be."""
        return cls(
            price=_number(None if info is None else info.price_places),
            quantity=_number(None if info is None else info.quantity_places),
            quote=_number(_quote_places(info, venue)),
        )


@frozen
class RowFormat:
    """The text of rows of one symbol: numbers with as many decimals as the exchange writes."""

    _template: str

    @classmethod
    def of(cls, info: SymbolInfo | None, venue: Venue) -> RowFormat:
        """Make the format of a symbol, see `NumberFormats`."""
        numbers = NumberFormats.of(info, venue)
        prices, quantities, quotes = numbers.price, numbers.quantity, numbers.quote
        return cls(
            f'[%d,"{prices}","{prices}","{prices}","{prices}","{quantities}",%d,"{quotes}",%d,'
            f'"{quantities}","{quotes}","0"]'
        )

    def row(self, kline: Kline) -> bytes:
        """Write one row."""
        text = self._template % (
            kline.open_time,
            kline.open,
            kline.high,
            kline.low,
            kline.close,
            kline.volume,
            kline.close_time,
            kline.quote_volume,
            kline.trades,
            kline.taker_buy_volume,
            kline.taker_buy_quote_volume,
        )
        # With so many digits a number is not what was read as this float; the shortest one is.
        if kline.volume >= LONG_FROM or kline.quote_volume >= LONG_FROM:
            text = with_shortest_numbers(text)
        return text.encode()


def with_shortest_numbers(text: str) -> str:
    """Write numbers of more than 15 digits with the fewest digits that make the same float.

    The decimals stay as many: the others are zeros.
    """
    return _LONG.sub(_shortest, text)


def _shortest(number: re.Match[str]) -> str:
    places = len(number[0]) - number[0].index(".") - 1
    return f"{Decimal(repr(float(number[0]))):.{places}f}"


def body_of(rows: Iterable[bytes]) -> bytes:
    """Write a whole answer."""
    return b"[" + b",".join(rows) + b"]"


def in_microseconds(row: bytes) -> bytes:
    """Write a row as spot does for clients that want times in microseconds."""
    opened, *values, closed, quote, trades, bought, bought_quote, unused = row.split(b",")
    return b",".join(
        (opened + b"000", *values, closed + b"999", quote, trades, bought, bought_quote, unused)
    )


def _quote_places(info: SymbolInfo | None, venue: Venue) -> int | None:
    if venue.quote_places is not None:
        return venue.quote_places
    if info is None or info.price_places is None or info.quantity_places is None:
        return None
    return info.price_places + info.quantity_places


def _number(places: int | None) -> str:
    return "%s" if places is None else f"%.{places}f"
