"""Models of `/v1/overview` and `/v1/coverage/days`: what the dashboard shows."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, field

from klineagent.api.models.contract import Count, IntervalName, SymbolName, Utc, VenueBeside
from klineagent.api.models.contract import VenueName as Venue
from klineagent.api.models.jobs import JobNow
from klineagent.api.models.reports import (
    Cursor,
    FeedState,
    Reason,
    Seconds,
    SeriesCoverage,
    Storage,
    VenueLimits,
)

MOST_SERIES_OF_DAYS = 10_000
MOST_DAYS = 400

Number = Annotated[
    int, Meta(ge=0, description="Its number among all events, points and losses; it only grows.")
]
Rate = Annotated[float, Meta(ge=0, description="Since the point before.")]
Quantile = Annotated[float | None, Meta(description="Null if no candle closed meanwhile.")]
Stage = Annotated[
    Literal["received", "stored", "readable"],
    Meta(
        description="`received`: its closing event came; `stored`: the database acknowledged it;"
        " `readable`: the read server answers with it."
    ),
]


class OverviewQuery(Struct, frozen=True):
    """From where on."""

    since: Annotated[
        int, Meta(ge=0, description="`next` of the last answer; 0 for all that is kept.")
    ] = 0


class OverviewTotals(Struct, frozen=True):
    """Sums over all venues."""

    symbols: Count
    series: Count
    active: Annotated[int, Meta(ge=0, description="Series that a connection carries.")]
    incomplete: Annotated[int, Meta(ge=0, description="Series with missing candles.")]
    missing: Annotated[int, Meta(ge=0, description="Candles that are due and not stored.")]
    behind_seconds: Annotated[float, Meta(ge=0, description="The longest lag of a series.")]
    received_per_second: Rate
    stored_per_second: Rate
    loop_lag_ms: Annotated[
        float | None,
        Meta(description="99 % of the event loop's passes took no longer, in the last interval."),
    ]


class VenueOverview(Struct, frozen=True):
    """One venue that is recorded."""

    venue: Venue
    is_default: bool
    symbols: Count
    series: Count
    active: Count
    incomplete: Count
    missing: Count
    lag_seconds: Annotated[
        dict[str, float], Meta(description="The longest lag by interval; 0 if there is none.")
    ]
    limits: VenueLimits


class StageDelays(Struct, frozen=True):
    """How long after their close candles were received, stored or readable, since the start."""

    stage: Stage
    venue: Venue
    interval: IntervalName
    bounds_seconds: Annotated[
        list[float], Meta(description="Upper bounds of the classes, ascending and inclusive.")
    ]
    counts: Annotated[
        list[int], Meta(description="Candles in each class; one more than bounds: above the last.")
    ]
    p50_seconds: Quantile = None
    p99_seconds: Quantile = None


class OverviewPoint(Struct, frozen=True):
    """A few figures over half an hour: each five seconds while clients ask, else each minute."""

    number: Number
    at: Utc
    received_per_second: Rate
    stored_per_second: Rate
    missing: Count
    behind_seconds: Seconds
    received_p99_seconds: Quantile = None
    stored_p99_seconds: Quantile = None
    readable_p99_seconds: Quantile = None
    loop_lag_ms: float | None = None


class LoggedEvent(Struct, frozen=True):
    """A line of the log, at level info or above; the last 300 are kept."""

    number: Number
    at: Utc
    level: Annotated[str, Meta(examples=["warning"])]
    event: Annotated[str, Meta(examples=["candles_missed"])]
    text: Annotated[str, Meta(description="Its fields.", examples=["deadlines=1"])]


class LostSpan(Struct, frozen=True):
    """Adjacent candles of a series that were lost since the agent started, and how they fared.

    It replaces what came before of the same series where they overlap.
    """

    number: Number
    venue: Venue
    symbol: SymbolName
    interval: IntervalName
    from_: Annotated[Utc, Meta(description="Open time of the first.")] = field(name="from")
    to: Annotated[Utc, Meta(description="Open time of the last.")]
    candles: Count
    how: Annotated[str, Meta(description="How they came to be missing.")]
    found: Annotated[Utc, Meta(description="When the first of them was found missing.")]
    healed: Annotated[
        Utc | None, Meta(description="When the last of them came; null while they are missing.")
    ] = None
    absent: Annotated[
        str, Meta(description="Why they will not come, if it turned out that they do not exist.")
    ] = ""


class Overview(Struct, frozen=True):
    """The state of the agent, and what happened since the last answer."""

    at: Annotated[Utc, Meta(description="The time of this answer, by the exchange's clock.")]
    started: Annotated[
        Utc,
        Meta(description="When this run began; by its own clock; each run has another one."),
    ]
    version: Annotated[str, Meta(examples=["0.4.0"])]
    access: Annotated[
        Literal["command", "read"], Meta(description="What the client may do on this server.")
    ]
    has_token: Annotated[bool, Meta(description="Whether the server wants a token.")]
    next: Annotated[int, Meta(ge=0, description="`since` of the next request.")]
    ready: bool
    reasons: Annotated[list[Reason], Meta(description="Why it is not ready.")]
    totals: OverviewTotals
    venues: Annotated[list[VenueOverview], Meta(description="The default one is first.")]
    feeds: list[FeedState]
    storage: Storage
    delays: list[StageDelays]
    points: Annotated[list[OverviewPoint], Meta(description="Those after `since`.")]
    behind: Annotated[
        list[SeriesCoverage], Meta(description="The worst 50 with missing candles or a lag.")
    ]
    events: Annotated[list[LoggedEvent], Meta(description="Those after `since`, oldest first.")]
    losses: Annotated[
        list[LostSpan], Meta(description="The newest 200 that began or changed after `since`.")
    ]
    jobs: Annotated[
        list[JobNow], Meta(description="Jobs that are not over in their order, then ended ones.")
    ] = []


class DaysQuery(Struct, frozen=True):
    """Which days, and of which series."""

    from_: Annotated[
        str,
        Meta(description="The first day, in UTC; empty for 30 days.", examples=["2026-11-01"]),
    ] = field(name="from", default="")
    to: Annotated[
        str,
        Meta(description="The day after the last; empty for tomorrow.", examples=["2026-12-01"]),
    ] = ""
    symbol: Annotated[str, Meta(description="Only this symbol.", examples=["BTCUSDT"])] = ""
    venue: Annotated[
        str, Meta(description="The venue of the symbol; without one, only this venue.")
    ] = ""
    interval: Annotated[str, Meta(description="Only this interval.", examples=["1m"])] = ""
    limit: Annotated[int, Meta(ge=1, le=MOST_SERIES_OF_DAYS, description="Series on a page.")] = (
        1_000
    )
    after: Annotated[
        str, Meta(description="`next` of the previous page; without it, the first page.")
    ] = ""


class SeriesDays(Struct, frozen=True, omit_defaults=True):
    """One series, a letter a day."""

    symbol: SymbolName
    interval: IntervalName
    days: Annotated[
        str,
        Meta(
            description="`c` complete (the running day: so far), `h` complete after candles were"
            " lost and fetched, `f` candles are missing and being fetched, `g` candles are missing"
            " and the last attempt failed, `a` complete but for candles that do not exist, `i`"
            " complete, from imported files, `-` not recorded.",
            examples=["--cccchcf"],
        ),
    ]
    missing: Count = 0
    absent: Count = 0
    healed: Annotated[int, Meta(ge=0, description="Lost since the agent started, and fetched.")] = 0
    venue: VenueBeside = UNSET


class CoverageDays(Struct, frozen=True):
    """A page of series by symbol and interval; counts are of the days asked for."""

    from_: Annotated[str, Meta(examples=["2026-11-01"])] = field(name="from")
    days: Count
    at: Utc
    series: list[SeriesDays]
    total: Annotated[int, Meta(ge=0, description="The number of series on all pages.")]
    next: Annotated[
        Cursor | None, Meta(description="Pass it as `after` for the next page; null on the last.")
    ] = None
