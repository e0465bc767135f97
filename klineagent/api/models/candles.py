"""Models of `/v1/candles`, `/v1/last` and `/v1/tail`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, field

from klineagent.api.models.contract import Count, IntervalName, SymbolName, Utc, VenueBeside
from klineagent.api.models.reports import AbsentSpan, MissingSpan

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


Version = Annotated[
    int, Meta(ge=0, description="The rank of a state of a candle; the newest has the highest.")
]


class CandleRow(Struct, frozen=True):
    """One state of one candle."""

    open_time: Utc
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: Count
    is_closed: bool
    event_time: Annotated[
        Utc, Meta(description="As of when the exchange told it: an old one is of a silent stream.")
    ]
    version: Version
    source: Annotated[
        str,
        Meta(
            description="`stream`, `rest`, `archive`, `repair`, or `unknown`.", examples=["stream"]
        ),
    ]


class LastQuery(Struct, frozen=True):
    """Of which series; of all without parameters."""

    symbol: Annotated[str, Meta(description="As in `/v1/candles`; empty for all symbols.")] = ""
    interval: Annotated[str, Meta(description="As in `/v1/candles`; empty for all.")] = ""


class LastCandle(CandleRow, frozen=True, kw_only=True):
    """The newest state of a series."""

    symbol: SymbolName
    interval: IntervalName
    venue: VenueBeside = UNSET


class LastCandles(Struct, frozen=True):
    """The newest state of each series: by venue, by symbol, by length of the interval."""

    candles: list[LastCandle]
    silent: Annotated[
        int, Meta(ge=0, description="Series of which nothing has come since the agent began.")
    ]


class TailQuery(Struct, frozen=True):
    """Of which series, and from which state on."""

    symbol: SymbolName
    interval: IntervalName
    since: Annotated[
        int, Meta(ge=0, le=2**62, description="`next` of the last answer; 0 for the newest.")
    ] = 0
    limit: Annotated[int, Meta(ge=1, le=1_500, description="At most so many candles.")] = 500
    before: Annotated[
        str,
        Meta(
            description="Instead of `since`: the newest candles that opened before this time,"
            " through all that is stored."
        ),
    ] = ""
    gaps: Annotated[
        Literal["refused", "listed"],
        Meta(
            description="`listed`: missing candles are listed; else the answer waits for them, or"
            " is 503."
        ),
    ] = "refused"


class TailCandles(Struct, frozen=True):
    """States that are newer than `since`, of one series, ascending; the forming candle is last."""

    symbol: SymbolName
    interval: IntervalName
    candles: list[CandleRow]
    next: Annotated[Version, Meta(description="`since` of the next request.")]
    missing: Annotated[
        list[MissingSpan], Meta(description="With `gaps=listed`: candles that are being fetched.")
    ] = []
    absent: Annotated[
        list[AbsentSpan], Meta(description="With `gaps=listed`: candles that do not exist.")
    ] = []
