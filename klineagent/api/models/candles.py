"""Models of `/v1/candles`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from klineagent.api.models.contract import IntervalName


class CandlesQuery(Struct, frozen=True):
    """Which closed candles, and how they are written."""

    symbol: Annotated[
        str,
        Meta(description="A symbol, or several with commas.", examples=["BTCUSDT,spot:BTCUSDT"]),
    ]
    interval: IntervalName
    from_: Annotated[str, Meta(description="Candles that open at this time or later.")] = field(
        name="from", default=""
    )
    to: Annotated[str, Meta(description="Candles that open before this time.")] = ""
    last: Annotated[int, Meta(ge=1, description="The newest so many of them.")] | None = None
    format: Annotated[str, Meta(description="`csv`, `jsonl` or `arrow`.")] = "csv"
