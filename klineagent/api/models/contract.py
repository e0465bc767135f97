"""Models of requests and answers that are older than `/v1`, and vocabulary shared by all.

Struct names are unique across the modules of this folder: `/openapi.json` lists them in one table.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

# Vocabulary that many models share.
SymbolName = Annotated[
    str,
    Meta(
        description="A symbol; if it is not of the default venue, `venue:SYMBOL`. Case"
        " and surrounding blanks are ignored.",
        examples=["BTCUSDT"],
    ),
]
VenueName = Annotated[str, Meta(description="A venue: usdm, coinm or spot.", examples=["spot"])]
VenueAsked = Annotated[
    str, Meta(description="The venue of symbols that name none; empty for the default venue.")
]
VenueBeside = (
    Annotated[str, Meta(description="The venue, if it is not the default one.")] | UnsetType
)
IntervalName = Annotated[
    str, Meta(description="An interval that the venue offers.", examples=["1m"])
]
Count = Annotated[int, Meta(ge=0, examples=[7])]
Utc = Annotated[
    str, Meta(description="ISO 8601 with its offset.", examples=["2026-02-01T20:00:00+00:00"])
]


def venue_beside(symbol: str) -> str | UnsetType:
    """Return the venue in a symbol as answers write it; UNSET if it is the default one."""
    return symbol.rpartition(":")[0] or UNSET


class Error(Struct, frozen=True):
    """What went wrong, naming the field."""

    error: Annotated[str, Meta(examples=["interval: '7m' does not exist on usdm"])]


class Pong(Struct, frozen=True):
    """A sign of life."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"
    message: Annotated[str, Meta(examples=["pong"])] = "pong"


class OpenApi(Struct, frozen=True):
    """An OpenAPI document."""

    openapi: Annotated[str, Meta(examples=["3.1.0"])]
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


class StreamBody(Struct, frozen=True):
    """One stream: a symbol at an interval."""

    symbol: SymbolName
    interval: IntervalName
    venue: VenueAsked = ""


class SymbolsBody(Struct, frozen=True):
    """Symbols; duplicates are ignored."""

    # For the document only: requests.py rejects an empty list with the contract's message.
    symbols: Annotated[list[SymbolName], Meta(extra_json_schema={"minItems": 1})]
    venue: VenueAsked = ""


class Done(Struct, frozen=True, kw_only=True):
    """The command was carried out."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"
    message: Annotated[str, Meta(examples=["Added stream for BTCUSDT 1m"])]


class ConnectionCount(Struct, frozen=True):
    """The number of running streams."""

    connection_count: Count


class Connection(Struct, frozen=True):
    """A running stream."""

    symbol: SymbolName
    interval: IntervalName
    created_at: Utc
    is_active: Annotated[
        bool, Meta(description="Whether the exchange has confirmed it on the current connection.")
    ]
    venue: VenueBeside = UNSET


class Connections(Struct, frozen=True):
    """All running streams."""

    connections: list[Connection]
    count: Count


class Symbols(Struct, frozen=True):
    """The symbols with running streams, sorted."""

    symbols: list[SymbolName]
    count: Count


class Current(Struct, frozen=True):
    """The running streams' number and symbols."""

    connection_count: Count
    symbols: list[SymbolName]


class Status(Struct, frozen=True, kw_only=True):
    """The running streams' number and symbols, with the status `ok`."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"
    connection_count: Count
    symbols: list[SymbolName]


class SymbolCounts(Struct, frozen=True):
    """The result for one symbol, counted in intervals."""

    symbol: SymbolName
    success_count: Annotated[
        int, Meta(ge=0, description="Intervals added, or removed, by this call.")
    ]
    failed_count: Annotated[int, Meta(ge=0, description="Intervals that failed.")]
    skipped_count: Annotated[
        int, Meta(ge=0, description="Intervals that were running, or not running, already.")
    ]
    total_count: Annotated[int, Meta(ge=0, description="Intervals requested.")]
    error: Annotated[str, Meta(description="Why the symbol failed.")] | UnsetType = UNSET
    venue: VenueBeside = UNSET


class Summary(Struct, frozen=True):
    """The result for all symbols of a call."""

    total_symbols: Count
    success_count: Count
    failed_count: Count
    failed_symbols: list[SymbolName]
    duration_seconds: Annotated[float, Meta(ge=0, examples=[0.212])]


class SymbolsAdded(Struct, frozen=True):
    """The result for each symbol, and the streams running now."""

    status: Annotated[
        str, Meta(description="`partial` if any symbol failed.", examples=["ok", "partial"])
    ]
    results: list[SymbolCounts]
    current_status: Current
    summary: Summary
    error: Annotated[str, Meta(description="The first failure, if nothing succeeded.")] | (
        UnsetType
    ) = UNSET
