"""Models of `/v1/jobs`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec import field as struct_field

from klineagent.api.models.contract import Count, SymbolName, Utc

JobId = Annotated[
    str, Meta(description="The hash of what is asked for.", examples=["9f86d081884c"])
]
JobStateName = Annotated[
    Literal[
        "queued",
        "listing",
        "running",
        "waiting",
        "paused",
        "done",
        "done_with_holes",
        "failed",
        "cancelled",
    ],
    Meta(
        description="`waiting`: it goes on by itself once `reason` is gone; `done_with_holes`: all"
        " that there is was taken, and candles are missing."
    ),
]
_Glob = Annotated[str, Meta(min_length=1, max_length=50, examples=["*USDT"])]


class JobPattern(Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of symbols; it also matches delisted ones that the archive has."""

    name: Annotated[
        _Glob, Meta(description="`*` stands for any characters, `?` for one, `[ab]` for a or b.")
    ]


class JobBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done; either `symbols` or `match` is set."""

    kind: Annotated[Literal["import"], Meta(description="`import`: the past of series.")]
    intervals: Annotated[list[str], Meta(description="Intervals.", examples=[["1m"]])]
    symbols: (
        Annotated[list[str], Meta(description="Symbols and patterns.", examples=[["BTCUSDT"]])]
        | UnsetType
    ) = UNSET
    match: JobPattern | UnsetType = UNSET
    from_: Annotated[
        str,
        Meta(
            description="The first open time; it begins with that day. Empty for all there is.",
            examples=["2024-01-01"],
        ),
    ] = struct_field(name="from", default="")
    to: Annotated[str, Meta(description="Candles that open before; empty for up to now.")] = ""
    rest: Annotated[
        bool, Meta(description="Whether the exchange is asked for what no file has.")
    ] = True
    venue: Annotated[
        str, Meta(description="The venue of names that name none; empty for the default one.")
    ] = ""


class RefusedImport(Struct, frozen=True):
    """A file that was not imported."""

    path: str
    reason: Annotated[str, Meta(examples=["its SHA-256 is not that of its CHECKSUM"])]


class CandlesNotFound(Struct, frozen=True):
    """Candles of a series that were not found."""

    series: Annotated[str, Meta(examples=["usdm BTCUSDT 1m"])]
    from_: Annotated[Utc, Meta(description="Open time of the first.")] = struct_field(name="from")
    to: Annotated[Utc, Meta(description="Before this open time.")]
    candles: Count
    reason: str


class JobProgress(Struct, frozen=True, kw_only=True):
    """How far a job is, since it last began; what it had done before is not counted."""

    series: Count
    series_listed: Annotated[int, Meta(ge=0, description="Series of which the files are known.")]
    files: Count
    files_total: Count
    bytes: Count
    bytes_total: Count
    candles: Annotated[int, Meta(ge=0, description="Candles from files that were not stored yet.")]
    candles_total: Annotated[int, Meta(ge=0, description="At most, if no file is short.")]
    exchange_candles: Annotated[int, Meta(ge=0, description="Candles that came from the exchange.")]
    exchange_candles_total: Count
    rows_per_second: Annotated[float, Meta(ge=0, description="Of the last files.")]
    eta_seconds: Annotated[
        float | None, Meta(description="Null before anything is done, and when it has ended.")
    ]
    imported: Annotated[int, Meta(ge=0, description="Files without a missing candle.")]
    short: Annotated[
        int, Meta(ge=0, description="Files in which candles of their time are missing.")
    ]
    refused: Annotated[int, Meta(ge=0, description="Files that were not imported.")]
    rewritten: Annotated[int, Meta(ge=0, description="Files that changed after their import.")]
    absent: Annotated[int, Meta(ge=0, description="Candles that are known not to exist.")]
    missing: Annotated[int, Meta(ge=0, description="Candles that were not found.")]
    refused_files: Annotated[list[RefusedImport], Meta(description="The first 50.")]
    missing_candles: Annotated[list[CandlesNotFound], Meta(description="The first 50 ranges.")]


class JobNow(Struct, frozen=True, kw_only=True):
    """A job."""

    id: JobId
    kind: Literal["import"]
    symbols: Annotated[list[SymbolName], Meta(description="Symbols and patterns, sorted.")]
    intervals: Annotated[list[str], Meta(examples=[["1m"]])]
    from_: Annotated[Utc | None, Meta(description="Null for all that there is.")] = struct_field(
        name="from"
    )
    to: Annotated[Utc | None, Meta(description="Null for up to now.")]
    rest: bool
    state: JobStateName
    reason: Annotated[str, Meta(description="Why it waits or has failed.")]
    created: Utc
    ended: Utc | None
    progress: JobProgress


class JobAccepted(Struct, frozen=True):
    """The job, and whether it would survive a restart."""

    job: JobNow
    saved: Annotated[bool, Meta(description="Whether it is in the job file.")]


class JobList(Struct, frozen=True):
    """Jobs that are not over in the order of their turns, then ended ones, newest first."""

    jobs: list[JobNow]
