"""What is asked and answered about the data, the limits and the feeds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from klineagent.api.models.contract import Count, IntervalName, SymbolName, Utc

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
    """Which series, and how many of them at once."""

    symbol: Annotated[str, Meta(description="Only this symbol.", examples=["BTCUSDT"])] = ""
    interval: Annotated[str, Meta(description="Only this interval.", examples=["1m"])] = ""
    limit: Annotated[int, Meta(ge=1, le=MOST_SERIES, description="Series on a page.")] = 100
    after: Annotated[
        str, Meta(description="`next` of the page before; the first page if absent.")
    ] = ""


class MissingSpan(Struct, frozen=True):
    """Neighbouring candles that are missing."""

    from_: First = field(name="from")
    to: Last
    candles: Count
    urgency: Annotated[str, Meta(examples=["missed"])]
    how: Annotated[str, Meta(description="How they came to be missing.")]
    error: Annotated[str, Meta(description="Why the last try to fetch them failed, if it did.")]


class AbsentSpan(Struct, frozen=True):
    """Neighbouring candles that will not come."""

    from_: First = field(name="from")
    to: Last
    candles: Count
    reason: Annotated[str, Meta(examples=["the exchange has no such candle"])]


class MissingCandles(Struct, frozen=True):
    """What should be in the database and is not; it is being fetched."""

    candles: Count
    spans: list[MissingSpan]
    more_spans: Annotated[int, Meta(ge=0, description="Older ones that are not told.")]


class AbsentCandles(Struct, frozen=True):
    """What does not exist, or cannot be stored."""

    candles: Count
    spans: list[AbsentSpan]
    more_spans: Annotated[int, Meta(ge=0, description="Older ones that are not told.")]


class SeriesCoverage(Struct, frozen=True):
    """How complete a series is. Every candle that is due is stored, missing or absent."""

    symbol: SymbolName
    interval: IntervalName
    is_active: Annotated[bool, Meta(description="Whether a feed carries it at this moment.")]
    expected: Annotated[int, Meta(ge=0, description="Candles from the first to the last due one.")]
    stored: Annotated[
        int, Meta(ge=0, description="In the database or on the way there: in memory, in the spool.")
    ]
    missing: MissingCandles
    absent: AbsentCandles
    healed: Annotated[int, Meta(ge=0, description="Were missing and came, in this run.")]
    lag_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="How long ago the newest candle closed that is not missing; 0 if"
            " it is the newest that is due.",
        ),
    ]
    from_: Annotated[Utc | None, Meta(description="Open time of the first candle.")] = field(
        name="from", default=None
    )
    to: Annotated[Utc | None, Meta(description="Open time of the last one that is due.")] = None
    last_close: Annotated[
        Utc | None, Meta(description="When the newest candle closed that came.")
    ] = None
    audited: Annotated[
        Utc | None,
        Meta(
            description="When this was last compared with what the database holds, by the"
            " exchange's clock: at the start, and again and again since."
        ),
    ] = None


class Coverage(Struct, frozen=True):
    """A page of series, by symbol and interval."""

    series: list[SeriesCoverage]
    total: Annotated[int, Meta(ge=0, description="All series there are, on whatever page.")]
    at: Annotated[Utc, Meta(description="When that was, by the exchange's clock.")]
    next: Annotated[
        Cursor | None, Meta(description="Give it as `after` for the next page; null on the last.")
    ] = None


class WhyQuery(Struct, frozen=True):
    """Which candle."""

    symbol: SymbolName
    interval: IntervalName
    open_time: Annotated[
        str,
        Meta(
            description="Milliseconds since the epoch, or ISO 8601; without an offset it is UTC.",
            examples=["2026-02-01T20:00:00Z", "1769976000000"],
        ),
    ]


class Search(Struct, frozen=True):
    """What is done for a missing candle."""

    since: Annotated[Utc, Meta(description="When it fell due.")]
    urgency: Annotated[str, Meta(examples=["missed"])]
    how: Annotated[str, Meta(description="How it came to be missing.")]
    tries: Annotated[int, Meta(ge=0, description="How often it was asked for in vain.")]
    error: Annotated[str, Meta(description="Why the last try failed, if it did.")]
    waits_for: Annotated[str, Meta(description="What comes before the next try.")]
    next_try: Annotated[
        Utc | None, Meta(description="Not before this time; null where nobody can tell.")
    ] = None


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
            description="Where it is from: `stream`, `rest`, `archive`, `repair`, or `unknown`.",
            examples=["stream"],
        ),
    ] = "unknown"


class StoreSays(Struct, frozen=True):
    """What the database has of a candle."""

    answered: Annotated[bool, Meta(description="Whether it could be asked.")]
    row: StoredRow | None = None
    error: Annotated[str, Meta(description="Why it could not.")] = ""


class Why(Struct, frozen=True):
    """All that is known of one candle."""

    symbol: SymbolName
    interval: IntervalName
    open_time: Utc
    close_time: Utc
    state: Annotated[
        State,
        Meta(
            description="`on_its_way`: it came, and waits in memory or in the spool; `closed`: it"
            " came, and who has it cannot be told; `lost`: it came, and nobody has it: the audit"
            " will fetch it again; the others say what they mean."
        ),
    ]
    explanation: Annotated[str, Meta(examples=["The database has it."])]
    due: Annotated[Utc, Meta(description="Missing from then on, if it has not come.")]
    store: StoreSays
    search: Search | None = None
    newest_event: Annotated[
        Utc | None, Meta(description="When it last changed, while it is forming.")
    ] = None


class RestLimits(Struct, frozen=True):
    """Request weight of the present minute, which is the exchange's."""

    used: Annotated[int, Meta(ge=0, description="By us, and by others at our address.")]
    limit: Annotated[int, Meta(ge=0, description="What we use at most.")]
    allowed: Annotated[int, Meta(ge=0, description="What the exchange allows.")]
    share: Annotated[float, Meta(ge=0, le=1, description="`limit` as a part of `allowed`.")]
    minute_ends_in_seconds: Seconds
    requests_under_way: Count
    requests_waiting: Count
    standing_down_seconds: Annotated[
        float, Meta(ge=0, description="How long no request will be made; 0 if one may.")
    ]
    standing_down_until: Utc | None = None


class ConnectionLimits(Struct, frozen=True):
    """Connections that were made, or tried."""

    used: Count
    limit: Count
    window_seconds: Seconds


class StreamLimits(Struct, frozen=True):
    """Streams on connections."""

    wanted: Count
    limit_per_connection: Count
    connections: Count


class MessageLimits(Struct, frozen=True):
    """Requests a connection makes to be sent, or not to be sent, streams."""

    limit_per_second: Seconds
    streams_per_message: Count


class Limits(Struct, frozen=True):
    """What the exchange allows, what we allow ourselves, and what is used of it."""

    rest: RestLimits
    connections: ConnectionLimits
    streams: StreamLimits
    messages: MessageLimits


class SpoolState(Struct, frozen=True):
    """What waits on disk for a database that takes no rows."""

    where: Annotated[str, Meta(examples=["data-spool-usdm"])]
    rows: Count
    batches: Count
    bytes: Count
    limit_bytes: Count
    error: Annotated[str, Meta(description="Why it takes nothing.")] | None = None


class Storage(Struct, frozen=True):
    """The database, and rows that are not in it yet. Rows are counted from the agent's start on."""

    database: Annotated[str, Meta(examples=["clickhouse://db.example:9000/market"])]
    takes_rows: Annotated[bool, Meta(description="As far as the last try tells.")]
    rows_stored: Count
    rows_waiting: Annotated[int, Meta(ge=0, description="In memory, on their way.")]
    rows_refused: Annotated[int, Meta(ge=0, description="Which the database will never take.")]
    error: Annotated[str, Meta(description="Why it takes none.")] | None = None
    spool: Annotated[SpoolState | None, Meta(description="Null where there is none.")] = None


class LastLoss(Struct, frozen=True):
    """How a connection was lost."""

    reason: Annotated[str, Meta(examples=["closed by the exchange: 1001 GOING_AWAY"])]
    seconds_ago: Seconds


class FeedState(Struct, frozen=True):
    """One place for up to a thousand streams, and the connection that is there now."""

    number: Annotated[int, Meta(ge=1)]
    state: Annotated[
        Literal["up", "taking_over", "down"], Meta(description="`taking_over`: there are two.")
    ]
    streams_wanted: Count
    streams_carried: Annotated[int, Meta(ge=0, description="Acknowledged by the exchange.")]
    messages: Annotated[int, Meta(ge=0, description="Klines of this connection.")]
    messages_per_second: Annotated[float, Meta(ge=0, description="Of the last half minute.")]
    dials: Count
    lost: Annotated[int, Meta(ge=0, description="Connections that ended on their own.")]
    replaced: Annotated[int, Meta(ge=0, description="Connections another took over from.")]
    age_seconds: Annotated[Seconds | None, Meta(description="Of the connection.")] = None
    last_data_seconds_ago: Seconds | None = None
    last_loss: LastLoss | None = None


class Feeds(Struct, frozen=True):
    """All of them."""

    feeds: list[FeedState]


class Live(Struct, frozen=True):
    """The event loop runs."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"


class Reason(Struct, frozen=True):
    """One thing that is wrong."""

    part: Annotated[str, Meta(description="Where.", examples=["feeds", "store"])]
    reason: Annotated[
        str, Meta(examples=["the database takes no rows, and there is no spool: no answer"])
    ]


class Ready(Struct, frozen=True):
    """Whether candles are recorded as they should be, and everything that is wrong if not."""

    ready: bool
    reasons: list[Reason]
