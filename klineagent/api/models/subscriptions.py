"""What is said of the set that should run; how it is written: `series/desired/wire_format.py`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from klineagent.api.models.contract import Count, SymbolName
from klineagent.series.desired.wire_format import Excluded, Pattern, Wanted

_Streams = Annotated[
    list[str], Meta(description="The first twenty of them.", examples=[["BTCUSDT 1m"]])
]
_Unmatched = Annotated[
    list[Pattern],
    Meta(description="Patterns of the set that match nothing now; they may match later."),
]


class DryRun(Struct, frozen=True):
    """How a change is meant."""

    dry_run: Annotated[bool, Meta(description="Tell what would change, and change nothing.")] = (
        False
    )


class SubscriptionChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What leaves the set, and what then comes into it."""

    add: Annotated[
        list[Wanted], Meta(description="Wanted from now on, whatever was excluded before.")
    ] = []
    remove: Annotated[
        list[Wanted],
        Meta(
            description="Symbols are wanted no more; where a pattern wants them they become"
            " exceptions. A pattern goes as it is written in the set."
        ),
    ] = []


class SymbolReason(Struct, frozen=True):
    """A symbol that does not run as it should, and why."""

    symbol: SymbolName
    reason: Annotated[str, Meta(examples=["OMGUSDT does not trade on usdm (SETTLING)"])]


class StreamsNow(Struct, frozen=True):
    """How far the set has come, in streams."""

    wanted: Count
    active: Annotated[int, Meta(ge=0, description="The exchange has confirmed them.")]
    pending: Annotated[int, Meta(ge=0, description="Wanted and not active yet.")]
    ending: Annotated[
        int, Meta(ge=0, description="Delisted; each ends once its last candle is stored.")
    ]


class SubscriptionsNow(Struct, frozen=True):
    """The set that should run, and how far it has come."""

    subscriptions: list[Wanted]
    exclude: list[Excluded]
    symbols: Annotated[int, Meta(ge=0, description="How many the set comes to.")]
    max_symbols: Annotated[int, Meta(ge=1, description="How many are allowed.")]
    streams: StreamsNow
    pending: Annotated[
        list[SymbolReason], Meta(description="Symbols with pending streams; the first hundred.")
    ]
    refused: Annotated[
        list[SymbolReason], Meta(description="Symbols that cannot be had; the first hundred.")
    ]
    saved: Annotated[bool, Meta(description="Whether the set as it is now survives a restart.")]
    unmatched: _Unmatched = []


class ForecastTold(Struct, frozen=True):
    """What a change takes at the most, and what comes of the whole set."""

    feeds: Annotated[int, Meta(ge=0, description="Connections when it is done.")]
    new_feeds: Annotated[int, Meta(ge=0, description="How many of them have to be dialled.")]
    subscribe_seconds: Annotated[
        float, Meta(ge=0, description="What the exchange's limits make asking for it last.")
    ]
    history_candles: Annotated[
        int, Meta(ge=0, description="Fetched from before, if none of them is stored yet.")
    ]
    history_weight: Annotated[int, Meta(ge=0, description="REST weight these take.")]
    history_minutes: Annotated[
        float, Meta(ge=0, description="Minutes of the whole REST budget that weight is.")
    ]
    rows_per_day: Annotated[int, Meta(ge=0, description="Closed candles of the whole set.")]
    bytes_per_day: Annotated[
        int, Meta(ge=0, description="What they take in the database, about 39 bytes each.")
    ]


class SubscriptionOutcome(Struct, frozen=True):
    """What a change changes; it is done in the background."""

    dry_run: bool
    added: Annotated[int, Meta(ge=0, description="Streams.")]
    removed: Annotated[int, Meta(ge=0, description="Streams.")]
    added_streams: _Streams
    removed_streams: _Streams
    wanted: Annotated[int, Meta(ge=0, description="Streams of the whole set.")]
    symbols: Annotated[int, Meta(ge=0, description="Symbols of the whole set.")]
    forecast: ForecastTold
    saved: Annotated[
        bool,
        Meta(description="Whether the set as it is now survives a restart; false in a dry run."),
    ]
    unmatched: _Unmatched = []
