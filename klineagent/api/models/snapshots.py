"""Models of snapshots of an embedded database."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from klineagent.api.models.contract import Utc


class SnapshotTable(Struct, frozen=True):
    """A table or view in a snapshot."""

    name: Annotated[str, Meta(examples=["klines"])]
    create: Annotated[str, Meta(description="The statement that creates it.")]
    parts: Annotated[
        str | None,
        Meta(description="The folder in the snapshot with a folder per part; null of a view."),
    ]


class SnapshotTaken(Struct, frozen=True, kw_only=True):
    """A snapshot: files that never change, for another process on this machine."""

    name: Annotated[str, Meta(examples=["klineagent_5f0c9a7be210"])]
    folder: Annotated[str, Meta(description="Where it is; absolute, as the agent sees it.")]
    database: Annotated[str, Meta(examples=["market"])]
    tables: Annotated[
        list[SnapshotTable], Meta(description="In the order in which they can be created.")
    ]
    as_of: Annotated[
        Utc | None,
        Meta(
            description="It holds every closed candle that was received until then; null while the"
            " agent has not stored all it received since it started."
        ),
    ]
    kept_s: Annotated[
        int,
        Meta(
            description="It is removed after so many seconds, unless a process holds a lock (flock)"
            " on its folder."
        ),
    ]
