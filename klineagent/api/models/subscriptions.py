"""Models of `/v1/subscriptions`; `series/desired/wire_format.py` has those of the set itself."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct

from klineagent.api.models.contract import Count, SymbolName, VenueBeside
from klineagent.series.desired.wire_format import Excluded, Pattern, Wanted

_Streams = Annotated[
    list[str], Meta(description="The first twenty streams.", examples=[["BTCUSDT 1m"]])
]
_Unmatched = Annotated[
    list[Pattern],
    Meta(description="Patterns of the set that match no symbol now; they may match later."),
]


class DryRun(Struct, frozen=True):
    """Whether to carry out a change."""

    dry_run: Annotated[bool, Meta(description="Report what would change, and change nothing.")] = (
        False
    )


class SubscriptionChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Entries to remove from the set, and entries to add then."""

    add: Annotated[
        list[Wanted], Meta(description="Entries to add; they override earlier exclusions.")
    ] = []
    remove: Annotated[
        list[Wanted],
        Meta(
            description="Entries to remove. A symbol that a pattern matches becomes an exclusion."
            " Write a pattern exactly as it is in the set."
        ),
    ] = []


class SymbolReason(Struct, frozen=True):
    """A symbol that is not recorded as desired, and why."""

    symbol: SymbolName
    reason: Annotated[str, Meta(examples=["OMGUSDT does not trade on usdm (SETTLING)"])]
    venue: VenueBeside = UNSET


class StreamsNow(Struct, frozen=True):
    """The progress towards the set, counted in streams."""

    wanted: Count
    active: Annotated[int, Meta(ge=0, description="Confirmed by the exchange.")]
    pending: Annotated[int, Meta(ge=0, description="Wanted and not active yet.")]
    ending: Annotated[
        int, Meta(ge=0, description="Delisted; each ends once its last candle is stored.")
    ]


class SubscriptionsNow(Struct, frozen=True):
    """The desired set, and the progress towards it."""

    subscriptions: list[Wanted]
    exclude: list[Excluded]
    symbols: Annotated[int, Meta(ge=0, description="Symbols in the set.")]
    max_symbols: Annotated[int, Meta(ge=1, description="Most symbols allowed.")]
    streams: StreamsNow
    pending: Annotated[
        list[SymbolReason], Meta(description="Symbols with pending streams; the first hundred.")
    ]
    refused: Annotated[
        list[SymbolReason], Meta(description="Symbols that cannot be recorded; the first hundred.")
    ]
    saved: Annotated[bool, Meta(description="Whether the current set survives a restart.")]
    unmatched: _Unmatched = []


class ForecastTold(Struct, frozen=True):
    """The most a change costs, and the daily volume of the whole set."""

    feeds: Annotated[int, Meta(ge=0, description="Connections after the change.")]
    new_feeds: Annotated[int, Meta(ge=0, description="Connections to be opened for it.")]
    subscribe_seconds: Annotated[
        float, Meta(ge=0, description="Time to subscribe within the exchange's rate limits.")
    ]
    history_candles: Annotated[
        int, Meta(ge=0, description="Past candles to fetch, if none is stored yet.")
    ]
    history_weight: Annotated[int, Meta(ge=0, description="REST weight to fetch them.")]
    history_minutes: Annotated[
        float, Meta(ge=0, description="Minutes in which the whole REST budget has that weight.")
    ]
    rows_per_day: Annotated[int, Meta(ge=0, description="Closed candles of the whole set.")]
    bytes_per_day: Annotated[
        int, Meta(ge=0, description="Their size in the database, at about 39 bytes a row.")
    ]


class SubscriptionOutcome(Struct, frozen=True):
    """The effect of a change, which is carried out in the background."""

    dry_run: bool
    added: Annotated[int, Meta(ge=0, description="Streams added.")]
    removed: Annotated[int, Meta(ge=0, description="Streams removed.")]
    added_streams: _Streams
    removed_streams: _Streams
    wanted: Annotated[int, Meta(ge=0, description="Streams of the whole set.")]
    symbols: Annotated[int, Meta(ge=0, description="Symbols of the whole set.")]
    forecast: ForecastTold
    saved: Annotated[
        bool,
        Meta(description="Whether the current set survives a restart; false in a dry run."),
    ]
    unmatched: _Unmatched = []
