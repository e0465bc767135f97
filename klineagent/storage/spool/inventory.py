"""The contents of a spool, for operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from attrs import frozen

from klineagent.core.errors import SegmentDamaged
from klineagent.storage.spool.disk import Files
from klineagent.storage.spool.folders import SpoolFolder, SpoolFolders
from klineagent.storage.spool.segment import Contents
from klineagent.storage.store import Table


@frozen(kw_only=True)
class Queue:
    """The batches waiting for one table."""

    table: Table
    segments: int
    rows: int
    bytes: int
    oldest_event: int | None
    """The oldest event time in the oldest batch, in ms of the exchange's clock."""


@frozen(kw_only=True)
class DeadLetter:
    """A batch that the database refused; a damaged file has only a name and a reason."""

    name: str
    reason: str
    table: Table | None = None
    rows: int = 0
    series: tuple[str, ...] = ()
    first_open: int | None = None
    last_open: int | None = None


@frozen(kw_only=True)
class Inventory:
    """The contents of a spool."""

    queues: tuple[Queue, ...]
    dead_letters: tuple[DeadLetter, ...]
    quarantined: tuple[str, ...]


def take_inventory(files: Files, folders: SpoolFolders) -> Inventory:
    """List the contents of a spool; of each queue, which may be long, only one file is read."""
    return Inventory(
        queues=tuple(_queue(files, table, folders.queue_of(table)) for table in Table),
        dead_letters=tuple(_dead_letters(files, folders.dead)),
        quarantined=tuple(folders.quarantine.names),
    )


def _queue(files: Files, table: Table, folder: SpoolFolder) -> Queue:
    oldest_event = None
    # An agent may be emptying it at this moment, and handles damaged files itself.
    with suppress(FileNotFoundError, SegmentDamaged):
        if folder.oldest is not None:
            rows = folder.read(files, folder.oldest).batch.klines
            oldest_event = min(kline.event_time for kline in rows)
    return Queue(
        table=table,
        segments=len(folder),
        rows=folder.rows,
        bytes=folder.size_bytes,
        oldest_event=oldest_event,
    )


def _dead_letters(files: Files, folder: SpoolFolder) -> Iterator[DeadLetter]:
    for name in folder.names:
        with suppress(FileNotFoundError):
            try:
                yield _dead_letter(name, folder.read(files, name))
            except SegmentDamaged as damage:
                yield DeadLetter(name=name, reason=f"damaged: {damage}")


def _dead_letter(name: str, contents: Contents) -> DeadLetter:
    klines = contents.batch.klines
    opens = [kline.open_time for kline in klines]
    return DeadLetter(
        name=name,
        reason=contents.reason,
        table=contents.batch.table,
        rows=len(klines),
        series=tuple(sorted({f"{kline.symbol} {kline.interval}" for kline in klines})),
        first_open=min(opens),
        last_open=max(opens),
    )
