"""What the status server says of the agent's health."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


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
