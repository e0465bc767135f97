"""Models of `/v1/candles`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

SymbolNames = Annotated[
    str,
    Meta(
        description="A symbol, or a pattern of those that are recorded; several with commas.",
        examples=["BTCUSDT,spot:*USDC"],
    ),
]
IntervalNames = Annotated[
    str, Meta(description="An interval, or several with commas.", examples=["1m,1h"])
]


class CandlesQuery(Struct, frozen=True):
    """Which candles, and how they are written."""

    symbol: SymbolNames
    interval: IntervalNames
    from_: Annotated[str, Meta(description="Candles that open at this time or later.")] = field(
        name="from", default=""
    )
    to: Annotated[str, Meta(description="Candles that open before this time.")] = ""
    last: Annotated[int, Meta(ge=1, description="The newest so many of each series.")] | None = None
    state: Annotated[
        Literal["closed", "all"],
        Meta(description="`all` adds the forming candle, and a column `is_closed`."),
    ] = "closed"
    format: Annotated[str, Meta(description="`csv`, `jsonl`, `arrow` or `parquet`.")] = "csv"
