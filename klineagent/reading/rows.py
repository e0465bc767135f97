"""Klines as the exchange writes them in its REST answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from klineagent.core.kline import Kline
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.exchange.venues import Venue


@frozen
class RowFormat:
    """The text of rows of one symbol: numbers with as many decimals as the exchange writes."""

    _template: str

    @classmethod
    def of(cls, info: SymbolInfo | None, venue: Venue) -> RowFormat:
        """Make the format of a symbol; with unknown decimals numbers are as short as can be."""
        prices = _number(None if info is None else info.price_places)
        quantities = _number(None if info is None else info.quantity_places)
        quotes = _number(_quote_places(info, venue))
        return cls(
            f'[%d,"{prices}","{prices}","{prices}","{prices}","{quantities}",%d,"{quotes}",%d,'
            f'"{quantities}","{quotes}","0"]'
        )

    def row(self, kline: Kline) -> str:
        """Write one row."""
        return self._template % (
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

    def body(self, klines: Iterable[Kline]) -> bytes:
        """Write a whole answer."""
        return f"[{','.join(map(self.row, klines))}]".encode()


def _quote_places(info: SymbolInfo | None, venue: Venue) -> int | None:
    if venue.quote_places is not None:
        return venue.quote_places
    if info is None or info.price_places is None or info.quantity_places is None:
        return None
    return info.price_places + info.quantity_places


def _number(places: int | None) -> str:
    return "%s" if places is None else f"%.{places}f"
