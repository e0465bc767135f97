"""The spool keeps batches on disk until the database takes them.

One segment is one frozen batch, one insert, one token; deleting the file is the acknowledgement.
There is no index: the folders' listings are the whole state.

    candles/ updates/   queues, one per table, so that dropping updates never touches candles
    dead/               batches that the database refused, with its reason
    quarantine/         damaged files
    boot                the number of the last run
    lock                locked while an agent uses the spool
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
from attrs import define, field, frozen

from klineagent.core.errors import SegmentDamaged, SpoolFull
from klineagent.core.interval import SECOND_MS
from klineagent.core.kline import Key
from klineagent.storage.spool.disk import TEMPORARY, Disk, Files, is_full, write_durably
from klineagent.storage.spool.folders import SpoolFolder, SpoolFolders
from klineagent.storage.spool.segment import Contents, boot_of, encode, new_name, rows_of
from klineagent.storage.store import Batch

FILLING_AT = 0.8
"""An alarm is logged when so much of the limit is used."""
CALM_BELOW = 0.6
"""Below this, the next time is logged again."""
_BOOT = "boot"

log = structlog.get_logger()


@frozen
class Segment:
    """A batch in a queue."""

    name: str
    batch: Batch
    queue: SpoolFolder = field(repr=False)


@define(eq=False, kw_only=True)
class Spool:
    """Batches on disk. Methods may be called concurrently; the disk serves them in turn.

    They raise `SpoolError`s. After one, the rows may be on disk or not: keep them, and append or
    send the same batch again.
    """

    disk: Disk
    limit_bytes: int
    """The largest size of all files together."""
    dropped_updates: int = field(default=0, init=False)
    """Rows of updates dropped to make room, in this run."""
    _folders: SpoolFolders
    _boot: int
    _number: int = field(default=0, init=False)
    _has_logged_filling: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._log_filling(adding=0)

    @property
    def segments(self) -> int:
        """How many batches wait for the database."""
        return sum(map(len, self._folders.queues))

    @property
    def rows(self) -> int:
        """How many rows wait for the database."""
        return sum(queue.rows for queue in self._folders.queues)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for the database."""
        return not self.segments

    @property
    def bytes(self) -> int:
        """The size of all files together: queues, dead letters and quarantine."""
        return sum(folder.size_bytes for folder in self._folders.all)

    @property
    def dead_letters(self) -> int:
        """How many refused batches were neither retried nor dropped yet."""
        return len(self._folders.dead)

    @property
    def damaged(self) -> int:
        """How many files are in quarantine."""
        return len(self._folders.quarantine)

    async def append(self, batch: Batch) -> None:
        """Append `batch` to the queue of its table; on return it survives power loss.

        If the limit is reached, the oldest updates are dropped to make room; candles never are.

        Raises:
            SpoolFull: the disk is full, or the limit would be exceeded even without updates.
            SpoolBroken: the disk failed.
        """
        if batch.klines:
            queue = self._folders.queue_of(batch.table)
            await self.disk.run(partial(self._put, queue, Contents(batch)))

    async def set_aside(self, batch: Batch, reason: str) -> None:
        """Keep `batch` as a dead letter with its reason; on return it survives power loss.

        Raises:
            SpoolFull: as in `append`.
            SpoolBroken: the disk failed.
        """
        if batch.klines:
            await self.disk.run(partial(self._put, self._folders.dead, Contents(batch, reason)))

    async def oldest(self) -> Segment | None:
        """Return the batch to send next: candles before updates, oldest first.

        It stays the same until it is acknowledged, or an operator puts back an older one. Damaged
        files before it are moved to quarantine.
        """
        return await self.disk.run(self._oldest)

    async def holds(self, key: Key) -> bool:
        """Return whether a closed state of that candle waits; the newest segments are read first.

        It may read every segment: call it with a deadline.
        """
        queue = self._folders.candles
        for name in reversed(queue.names):
            if await self.disk.run(partial(queue.holds, name=name, key=key)):
                return True
        return False

    async def acknowledge(self, segment: Segment) -> None:
        """Delete a batch that the database has stored."""
        # Power loss may bring it back. Then it is sent again under its token: that changes nothing.
        await self.disk.run(partial(segment.queue.remove, name=segment.name))

    async def refresh(self) -> None:
        """List the folders anew, for an operator's commands may have changed them."""
        await self.disk.run(self._folders.refresh)

    # The methods below run on the disk's thread, one call at a time. The properties read single
    # numbers meanwhile, each as of before or after the call.

    def _put(self, folder: SpoolFolder, contents: Contents, files: Files) -> None:
        data = encode(contents)
        # Before any updates are dropped.
        self._log_filling(adding=len(data))
        self._make_room(files, len(data))
        self._number += 1  # before the attempt, so that the next one has another name
        folder.put(files, new_name(self._boot, self._number, len(contents.batch.klines)), data)

    def _log_filling(self, *, adding: int) -> None:
        size = self.bytes + adding
        if size >= FILLING_AT * self.limit_bytes and not self._has_logged_filling:
            self._has_logged_filling = True
            log.error("spool_filling", bytes=self.bytes, limit_bytes=self.limit_bytes)
        elif size < CALM_BELOW * self.limit_bytes:
            self._has_logged_filling = False

    def _make_room(self, files: Files, size: int) -> None:
        updates = self._folders.updates
        if self.bytes - updates.size_bytes + size > self.limit_bytes:
            raise SpoolFull(
                f"spool {self.disk.label}: its limit of {self.limit_bytes} bytes is reached"
            )
        while self.bytes + size > self.limit_bytes and (name := updates.oldest) is not None:
            self._drop_updates(files, name)

    def _drop_updates(self, files: Files, name: str) -> None:
        updates = self._folders.updates
        try:
            span = _span(updates.read(files, name).batch)
        except FileNotFoundError:  # an operator deleted it
            updates.remove(files, name)
            return
        except SegmentDamaged:  # its name still has the number of rows
            span = {}
        updates.remove(files, name)
        self.dropped_updates += rows_of(name)
        log.warning("updates_dropped", rows=rows_of(name), **span)

    def _oldest(self, files: Files) -> Segment | None:
        for queue in self._folders.queues:
            while (name := queue.oldest) is not None:
                contents = self._folders.open(files, queue, name)
                if contents is not None:
                    return Segment(name, contents.batch, queue)
        return None


@asynccontextmanager
async def open_spool(
    disk: Disk, *, limit_bytes: int, adopt: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[Spool]:
    """Open the spool on `disk`, locked until the block ends.

    `adopt` may add segments before they are listed.

    Raises:
        SpoolError: another agent uses it, a newer version has written to it, or the disk failed.
    """
    async with disk.hold():
        if adopt is not None:
            await adopt()
        yield await disk.run(partial(_opened, disk, limit_bytes))


def _opened(disk: Disk, limit_bytes: int, files: Files) -> Spool:
    folders = SpoolFolders()
    for folder in folders.all:
        files.make_folder(folder.path)
    for path in ("", *(folder.path for folder in folders.all)):
        # Files not complete yet: they were never acknowledged to a caller.
        for name in files.sizes(path):
            if name.endswith(TEMPORARY):
                files.unlink(f"{path}/{name}" if path else name)
    folders.refresh(files)
    folders.refuse_newer(files)
    boot = _next_boot(files, folders)
    return Spool(disk=disk, limit_bytes=limit_bytes, folders=folders, boot=boot)


def _next_boot(files: Files, folders: SpoolFolders) -> int:
    try:
        counted = int(files.read(_BOOT))
    except (FileNotFoundError, ValueError):
        counted = 0
    named = (boot_of(name) for folder in folders.all for name in folder.names)
    boot = max(counted, *named, 0) + 1
    try:
        write_durably(files, "", _BOOT, str(boot).encode())
    except OSError as error:
        # A full disk must not keep the spool from opening: only emptying it makes room. Names stay
        # unique by their random part, and in order by the existing names.
        if not is_full(error):
            raise
    return boot


def _span(batch: Batch) -> dict[str, str]:
    times = [kline.event_time for kline in batch.klines]
    return {"first": _utc(min(times)), "last": _utc(max(times))}


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC).isoformat(timespec="milliseconds")
