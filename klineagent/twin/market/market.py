"""The protocol of a market: listed symbols and their 1m candles."""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen

from klineagent.twin.market.candle import Candle

PERPETUAL_DELIVERY_MS = 4_133_404_800_000
"""The delivery date (2100-12-25 08:00Z) of perpetual contracts."""


@frozen(kw_only=True)
class Listing:
    """A symbol as exchangeInfo describes it, and the decimal places of its candles' integers."""

    symbol: str
    base: str
    quote: str
    price_places: int
    quantity_places: int
    quote_places: int
    onboard_ms: int
    delivery_ms: int = PERPETUAL_DELIVERY_MS
    contract_type: str = "PERPETUAL"
    status: str = "TRADING"
    underlying_type: str = "COIN"
    contract_size: int | None = None
    """Quote currency per contract on COIN-M, where volumes are contracts and base asset."""

    stream_symbol: str = field(init=False)
    """The symbol in stream names."""

    @stream_symbol.default
    def _lower(self) -> str:
        return self.symbol.lower()

    @property
    def pair(self) -> str:
        """The underlying pair; for most listings also the symbol."""
        return self.base + self.quote


class Market(Protocol):
    """The source of the twin's 1m candles. Pure: the same call has the same result."""

    @property
    def listings(self) -> tuple[Listing, ...]:
        """The symbols that trade."""

    @property
    def start_ms(self) -> int:
        """Start of the exchange's clock; there may be history before it."""

    @property
    def end_ms(self) -> int | None:
        """End of the last candle; None if the market never ends."""

    @property
    def tick_ms(self) -> int | None:
        """Time between forming updates that suits this market; None for the venue's."""

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """The closed 1m candle that opened at `open_ms`; None if there is none."""
