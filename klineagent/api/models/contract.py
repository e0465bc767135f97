"""What requests and answers look like on the wire: a Struct each, and the source of the documents.

Those of one topic may have a module of their own, `THING_models.py` beside `THING.py`; names are
unique across all of them, for `/openapi.json` lists them in one table.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

# Vocabulary that many models share.
SymbolName = Annotated[
    str,
    Meta(description="A symbol; case and blanks around it do not matter.", examples=["BTCUSDT"]),
]
IntervalName = Annotated[
    str, Meta(description="An interval that the venue offers.", examples=["1m"])
]
Count = Annotated[int, Meta(ge=0, examples=[7])]
Utc = Annotated[
    str, Meta(description="ISO 8601 with its offset.", examples=["2026-02-01T20:00:00+00:00"])
]


class Error(Struct, frozen=True):
    """What was wrong, naming the field."""

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


class SymbolsBody(Struct, frozen=True):
    """Symbols; one that is named twice counts once."""

    # Told, not checked: what is wrong with an empty one, requests.py says in the contract's words.
    symbols: Annotated[list[SymbolName], Meta(extra_json_schema={"minItems": 1})]


class Done(Struct, frozen=True, kw_only=True):
    """What was done."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"
    message: Annotated[str, Meta(examples=["Added stream for BTCUSDT 1m"])]


class ConnectionCount(Struct, frozen=True):
    """How many streams run."""

    connection_count: Count


class Connection(Struct, frozen=True):
    """A stream that runs."""

    symbol: SymbolName
    interval: IntervalName
    created_at: Utc
    is_active: Annotated[
        bool, Meta(description="Whether the exchange has confirmed it on the present connection.")
    ]


class Connections(Struct, frozen=True):
    """All streams that run."""

    connections: list[Connection]
    count: Count


class Symbols(Struct, frozen=True):
    """The symbols of which streams run, sorted."""

    symbols: list[SymbolName]
    count: Count


class Current(Struct, frozen=True):
    """What runs."""

    connection_count: Count
    symbols: list[SymbolName]


class Status(Struct, frozen=True, kw_only=True):
    """What runs, and that all is well enough to say so."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"
    connection_count: Count
    symbols: list[SymbolName]


class SymbolCounts(Struct, frozen=True):
    """What became of one symbol, in intervals."""

    symbol: SymbolName
    success_count: Annotated[
        int, Meta(ge=0, description="Run now and did not before, or the other way round.")
    ]
    failed_count: Annotated[int, Meta(ge=0, description="Are not as it was asked for.")]
    skipped_count: Annotated[int, Meta(ge=0, description="Were so already.")]
    total_count: Annotated[int, Meta(ge=0, description="Were asked for.")]
    error: Annotated[str, Meta(description="Why it failed, if it did.")] | UnsetType = UNSET


class Summary(Struct, frozen=True):
    """What became of all symbols of a call."""

    total_symbols: Count
    success_count: Count
    failed_count: Count
    failed_symbols: list[SymbolName]
    duration_seconds: Annotated[float, Meta(ge=0, examples=[0.212])]


class SymbolsAdded(Struct, frozen=True):
    """What became of each symbol, and what runs now."""

    status: Annotated[
        str, Meta(description="`partial` if any symbol failed.", examples=["ok", "partial"])
    ]
    results: list[SymbolCounts]
    current_status: Current
    summary: Summary
    error: Annotated[str, Meta(description="The first failure, if nothing succeeded.")] | (
        UnsetType
    ) = UNSET
