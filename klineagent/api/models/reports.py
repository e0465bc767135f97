"""Models of `/v1/coverage`, `/v1/why`, `/v1/limits`, `/v1/feeds`, `/v1/storage` and of health."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, field

from klineagent.api.models.contract import (
    Count,
    IntervalName,
    SymbolName,
    Utc,
    VenueAsked,
    VenueBeside,
    VenueName,
)

MOST_SERIES = 1000

Seconds = Annotated[float, Meta(ge=0, examples=[12.5])]
First = Annotated[Utc, Meta(description="Open time of the first.")]
Last = Annotated[Utc, Meta(description="Open time of the last.")]
State = Literal[
    "stored",
    "on_its_way",
    "closed",
    "lost",
    "forming",
    "expected",
    "missing",
    "absent",
    "not_covered",
]
Cursor = Annotated[str, Meta(description="Where a page ends.", examples=["BTCUSDT:1m"])]


class CoverageQuery(Struct, frozen=True):
    """Which series, and how many on a page."""

    symbol: Annotated[str, Meta(description="Only this symbol.", examples=["BTCUSDT"])] = ""
    venue: Annotated[
        str, Meta(description="The venue of the symbol; without one, only this venue.")
    ] = ""
    interval: Annotated[str, Meta(description="Only this interval.", examples=["1m"])] = ""
    limit: Annotated[int, Meta(ge=1, le=MOST_SERIES, description="Series on a page.")] = 100
    after: Annotated[
        str, Meta(description="`next` of the previous page; without it, the first page.")
    ] = ""


class MissingSpan(Struct, frozen=True):
    """A range of missing candles."""

    from_: First = field(name="from")
    to: Last
    candles: Count
    urgency: Annotated[str, Meta(examples=["missed"])]
    how: Annotated[str, Meta(description="How they came to be missing.")]
    error: Annotated[str, Meta(description="Why the last attempt to fetch them failed, if it did.")]


class AbsentSpan(Struct, frozen=True):
    """A range of candles that do not exist, or cannot be stored."""

    from_: First = field(name="from")
    to: Last
    candles: Count
    reason: Annotated[str, Meta(examples=["the exchange has no such candle"])]


class MissingCandles(Struct, frozen=True):
    """Candles that should be in the database and are not; they are being fetched."""

    candles: Count
    spans: list[MissingSpan]
    more_spans: Annotated[int, Meta(ge=0, description="Older ranges that are not listed.")]


class AbsentCandles(Struct, frozen=True):
    """Candles that do not exist, or cannot be stored."""

    candles: Count
    spans: list[AbsentSpan]
    more_spans: Annotated[int, Meta(ge=0, description="Older ranges that are not listed.")]


class SeriesCoverage(Struct, frozen=True):
    """How complete a series is. Every candle that is due is stored, missing or absent."""

    symbol: SymbolName
    venue: VenueName
    interval: IntervalName
    is_active: Annotated[bool, Meta(description="Whether a connection carries it at the moment.")]
    expected: Annotated[int, Meta(ge=0, description="Candles from the first to the last due one.")]
    stored: Annotated[
        int, Meta(ge=0, description="In the database, or on the way there in memory or the spool.")
    ]
    missing: MissingCandles
    absent: AbsentCandles
    healed: Annotated[
        int, Meta(ge=0, description="Missing candles recovered since the agent started.")
    ]
    lag_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds since the close of the newest candle that is not missing; 0 if"
            " no newer one is due.",
        ),
    ]
    from_: Annotated[Utc | None, Meta(description="Open time of the first candle.")] = field(
        name="from", default=None
    )
    to: Annotated[Utc | None, Meta(description="Open time of the last candle due.")] = None
    last_close: Annotated[
        Utc | None, Meta(description="Close time of the newest candle received.")
    ] = None
    audited: Annotated[
        Utc | None,
        Meta(
            description="When the series was last compared with the database, by the exchange's"
            " clock: at the start, and regularly since."
        ),
    ] = None


class Coverage(Struct, frozen=True):
    """A page of series, by symbol and interval."""

    series: list[SeriesCoverage]
    total: Annotated[int, Meta(ge=0, description="The number of series on all pages.")]
    at: Annotated[Utc, Meta(description="The time of this answer, by the exchange's clock.")]
    next: Annotated[
        Cursor | None, Meta(description="Pass it as `after` for the next page; null on the last.")
    ] = None


class WhyQuery(Struct, frozen=True):
    """Which candle."""

    symbol: SymbolName
    interval: IntervalName
    open_time: Annotated[
        str,
        Meta(
            description="Milliseconds since the epoch, or ISO 8601; UTC without an offset.",
            examples=["2026-02-01T20:00:00Z", "1769976000000"],
        ),
    ]
    venue: VenueAsked = ""


class Search(Struct, frozen=True):
    """The search for a missing candle."""

    since: Annotated[Utc, Meta(description="When the candle fell due.")]
    urgency: Annotated[str, Meta(examples=["missed"])]
    how: Annotated[str, Meta(description="How it came to be missing.")]
    tries: Annotated[int, Meta(ge=0, description="Failed attempts to fetch it.")]
    error: Annotated[str, Meta(description="Why the last attempt failed, if it did.")]
    waits_for: Annotated[str, Meta(description="What the next attempt waits for.")]
    next_try: Annotated[
        Utc | None, Meta(description="Earliest time of the next attempt; null if unknown.")
    ] = None


class Lost(Struct, frozen=True):
    """How a candle was lost since the agent started, and how it fared."""

    how: Annotated[str, Meta(description="How it came to be missing.")]
    found: Annotated[Utc, Meta(description="When it was found missing.")]
    healed: Annotated[Utc | None, Meta(description="When it came; null if it has not.")] = None


class StoredRow(Struct, frozen=True):
    """The one final row of a candle, as the database shows it."""

    version: int
    event_time: Utc
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int
    source: Annotated[
        str,
        Meta(
            description="Its source: `stream`, `rest`, `archive`, `repair`, or `unknown`.",
            examples=["stream"],
        ),
    ] = "unknown"


class StoreSays(Struct, frozen=True):
    """The database's answer about a candle."""

    answered: Annotated[bool, Meta(description="Whether the database answered.")]
    row: StoredRow | None = None
    error: Annotated[str, Meta(description="Why it did not.")] = ""


class Why(Struct, frozen=True):
    """All that is known about one candle."""

    symbol: SymbolName
    venue: VenueName
    interval: IntervalName
    open_time: Utc
    close_time: Utc
    state: Annotated[
        State,
        Meta(
            description="`stored`: in the database; `on_its_way`: received, and waiting in memory"
            " or the spool; `closed`: received, but where it is cannot be determined; `lost`:"
            " received, but neither stored nor waiting: the audit will fetch it again; `forming`:"
            " open now; `expected`: not due yet; `missing`: due, and being fetched; `absent`: does"
            " not exist, or cannot be stored; `not_covered`: the series does not include it."
        ),
    ]
    explanation: Annotated[str, Meta(examples=["The database has it."])]
    due: Annotated[
        Utc, Meta(description="It counts as missing from this time on, unless received.")
    ]
    store: StoreSays
    search: Search | None = None
    lost: Annotated[
        Lost | None,
        Meta(description="Null if it was not; of each series the newest losses are known."),
    ] = None
    newest_event: Annotated[
        Utc | None, Meta(description="Time of its last event, while it is forming.")
    ] = None


class RestLimits(Struct, frozen=True):
    """Request weight of the exchange's current minute, and requests to the venue."""

    pool: Annotated[
        str,
        Meta(
            description="The weight pool; `used`, `limit` and `allowed` are those of all its"
            " venues together.",
            examples=["futures"],
        ),
    ]
    used: Annotated[int, Meta(ge=0, description="Used by this agent and others at its address.")]
    limit: Annotated[int, Meta(ge=0, description="Most this agent uses.")]
    allowed: Annotated[int, Meta(ge=0, description="Most the exchange allows.")]
    share: Annotated[float, Meta(ge=0, le=1, description="`limit` as a fraction of `allowed`.")]
    minute_ends_in_seconds: Seconds
    requests_under_way: Count
    requests_waiting: Count
    standing_down_seconds: Annotated[
        float, Meta(ge=0, description="Seconds until the next request; 0 if requests are allowed.")
    ]
    standing_down_until: Utc | None = None


class ConnectionLimits(Struct, frozen=True):
    """Connection attempts in the current window."""

    used: Count
    limit: Count
    window_seconds: Seconds


class StreamLimits(Struct, frozen=True):
    """Streams, and how many a connection takes."""

    wanted: Count
    limit_per_connection: Count
    connections: Count


class MessageLimits(Struct, frozen=True):
    """SUBSCRIBE and UNSUBSCRIBE requests on a connection."""

    limit_per_second: Seconds
    streams_per_message: Count


class VenueLimits(Struct, frozen=True):
    """The limits of one venue."""

    venue: VenueName
    rest: RestLimits
    connections: ConnectionLimits
    streams: StreamLimits
    messages: MessageLimits


class Limits(VenueLimits, frozen=True, omit_defaults=True):
    """The exchange's limits, this agent's own lower ones, and how much of each is used.

    Those of the default venue; `others` are those of the other venues that it records.
    """

    others: list[VenueLimits] = []


class SpoolState(Struct, frozen=True):
    """Rows that wait on disk for the database."""

    where: Annotated[str, Meta(examples=["data-spool-usdm"])]
    rows: Count
    batches: Count
    bytes: Count
    limit_bytes: Count
    error: Annotated[str, Meta(description="Why the spool takes no rows.")] | None = None


class Storage(Struct, frozen=True):
    """The database, and rows not in it yet; rows are counted since the agent started."""

    database: Annotated[str, Meta(examples=["clickhouse://db.example:9000/market"])]
    takes_rows: Annotated[bool, Meta(description="Whether the last attempt to write succeeded.")]
    rows_stored: Count
    rows_waiting: Annotated[int, Meta(ge=0, description="Rows waiting in memory.")]
    rows_refused: Annotated[int, Meta(ge=0, description="Rows the database will never take.")]
    error: Annotated[str, Meta(description="Why the database takes no rows.")] | None = None
    spool: Annotated[SpoolState | None, Meta(description="Null without a spool.")] = None


class LastLoss(Struct, frozen=True):
    """How a connection was lost."""

    reason: Annotated[str, Meta(examples=["closed by the exchange: 1001 GOING_AWAY"])]
    seconds_ago: Seconds


class FeedState(Struct, frozen=True):
    """A connection slot for up to a thousand streams, and its current connection."""

    venue: VenueName
    number: Annotated[int, Meta(ge=1, description="Its number on the venue.")]
    state: Annotated[
        Literal["up", "taking_over", "down"],
        Meta(description="`taking_over`: a new connection replaces the old."),
    ]
    streams_wanted: Count
    streams_carried: Annotated[int, Meta(ge=0, description="Acknowledged by the exchange.")]
    messages: Annotated[int, Meta(ge=0, description="Klines received on this connection.")]
    messages_per_second: Annotated[float, Meta(ge=0, description="Over the last half minute.")]
    dials: Count
    lost: Annotated[int, Meta(ge=0, description="Connections that were lost.")]
    replaced: Annotated[int, Meta(ge=0, description="Connections replaced by a new one.")]
    age_seconds: Annotated[Seconds | None, Meta(description="Age of the connection.")] = None
    last_data_seconds_ago: Seconds | None = None
    last_loss: LastLoss | None = None


class Feeds(Struct, frozen=True):
    """All connection slots."""

    feeds: list[FeedState]


class Live(Struct, frozen=True):
    """The event loop is running."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"


class Reason(Struct, frozen=True):
    """One reason why the agent is not ready."""

    part: Annotated[str, Meta(description="The part of the agent.", examples=["feeds", "store"])]
    reason: Annotated[
        str, Meta(examples=["the database takes no rows, and there is no spool: no answer"])
    ]
    venue: VenueBeside = UNSET


class Ready(Struct, frozen=True):
    """Whether the agent records candles as it should, and every reason if not."""

    ready: bool
    reasons: list[Reason]
