"""What a market is to the twin: listed symbols and their 1m candles."""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen

from klineagent.twin.market.candle import Candle

PERPETUAL_DELIVERY_MS = 4_133_404_800_000
"""The delivery date (2100-12-25 08:00Z) of contracts that have none."""


@frozen(kw_only=True)
class Listing:
    """A symbol as exchangeInfo describes it, and the scales of its candles' integers."""

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
    """Quote currency per contract, on COIN-M; its volumes are contracts and base asset."""

    stream_symbol: str = field(init=False)
    """The symbol in names of streams."""

    @stream_symbol.default
    def _lower(self) -> str:
        return self.symbol.lower()

    @property
    def pair(self) -> str:
        """The underlying pair; also the symbol, for most."""
        return self.base + self.quote


class Market(Protocol):
    """Where the twin's 1m candles come from. Pure: asked twice, it answers the same."""

    @property
    def listings(self) -> tuple[Listing, ...]:
        """The symbols that trade."""

    @property
    def start_ms(self) -> int:
        """Where the exchange's clock begins; there may be history before it."""

    @property
    def end_ms(self) -> int | None:
        """Where the last candle ends; None if the market never does."""

    @property
    def tick_ms(self) -> int | None:
        """Time between growing updates that suits this market; None for as often as may be."""

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """The whole 1m candle that opened at `open_ms`; None where there is none."""
