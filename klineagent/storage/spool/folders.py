"""The subfolders of a spool, and the segments in them. Synchronous."""

from __future__ import annotations

import errno
import secrets
from collections import OrderedDict
from contextlib import suppress

import structlog
from attrs import Factory, define, evolve, field, frozen

from klineagent.core.errors import SegmentDamaged, SegmentTooNew
from klineagent.core.kline import Key
from klineagent.storage.spool.disk import Files, write_durably
from klineagent.storage.spool.segment import (
    BEGINNING_SIZE,
    SUFFIX,
    Contents,
    decode,
    encode,
    may_be_newer,
    renewed_name,
    rows_of,
)
from klineagent.storage.store import Batch, Table

log = structlog.get_logger()


@define(eq=False)
class SpoolFolder:
    """The segments of one subfolder, in order of creation.

    It knows the last listing, and what its own calls have changed since. An operator's commands
    change files at the same time, so a missing file is never an error.
    """

    path: str
    size_bytes: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)
    # Not a plain dict: finding its first entry scans all slots of deleted ones.
    _sizes: OrderedDict[str, int] = field(factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def names(self) -> list[str]:
        """The names of the segments, oldest first."""
        return list(self._sizes)

    @property
    def oldest(self) -> str | None:
        """The name of the oldest segment."""
        return next(iter(self._sizes), None)

    def refresh(self, files: Files) -> None:
        """List the folder anew."""
        found = files.sizes(self.path)
        names = sorted(name for name in found if name.endswith(SUFFIX))
        # Replaced, not cleared first: other threads may read the length at any time.
        self._sizes = OrderedDict((name, found[name]) for name in names)
        self.size_bytes = sum(self._sizes.values())
        self.rows = sum(map(rows_of, names))

    def put(self, files: Files, name: str, data: bytes) -> None:
        """Add a segment newer than all others; on return it survives power loss."""
        write_durably(files, self.path, name, data)
        self._add(name, len(data))

    def read(self, files: Files, name: str) -> Contents:
        """Read a segment.

        Raises:
            SegmentDamaged: the file is damaged.
            SegmentTooNew: a newer klineagent wrote it.
            FileNotFoundError: the file is gone.
        """
        try:
            return decode(files.read(self._file(name)))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # One bad block must not hold up all segments behind it for ever.
            raise SegmentDamaged(f"the disk cannot read it: {error.strerror}") from error

    def refuse_newer(self, files: Files, name: str) -> None:
        """Check that the segment's format is known; damage is only found when it is read.

        Raises:
            SegmentTooNew: a newer klineagent wrote it.
        """
        with suppress(OSError, SegmentDamaged):
            if may_be_newer(files.begin(self._file(name), BEGINNING_SIZE)):
                self.read(files, name)

    def holds(self, files: Files, name: str, key: Key) -> bool:
        """Return whether a segment has a closed state of that candle; False if it is gone."""
        with suppress(FileNotFoundError, SegmentDamaged):
            rows = self.read(files, name).batch.klines
            return any(row.is_closed and row[:4] == key for row in rows)
        return False

    def remove(self, files: Files, name: str) -> None:
        """Delete a segment."""
        files.unlink(self._file(name))
        self._forget(name)

    def move(self, files: Files, name: str, other: SpoolFolder) -> None:
        """Move a segment to another folder, unchanged."""
        try:
            files.rename(self._file(name), other._file(name))
        except FileNotFoundError:
            self._forget(name)
        else:
            other._add(name, self._forget(name))

    def _add(self, name: str, size: int) -> None:
        self._sizes[name] = size
        self.size_bytes += size
        self.rows += rows_of(name)

    def _forget(self, name: str) -> int:
        size = self._sizes.pop(name, None)
        if size is None:
            return 0
        self.size_bytes -= size
        self.rows -= rows_of(name)
        return size

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"


@frozen(kw_only=True)
class SpoolFolders:
    """All subfolders of a spool."""

    candles: SpoolFolder = Factory(lambda: SpoolFolder("candles"))
    updates: SpoolFolder = Factory(lambda: SpoolFolder("updates"))
    dead: SpoolFolder = Factory(lambda: SpoolFolder("dead"))
    """Batches that the database refused: dead letters."""
    quarantine: SpoolFolder = Factory(lambda: SpoolFolder("quarantine"))
    """Damaged files."""

    @property
    def queues(self) -> tuple[SpoolFolder, SpoolFolder]:
        """The folders with batches waiting for the database, in order of priority."""
        return self.candles, self.updates

    @property
    def all(self) -> tuple[SpoolFolder, ...]:
        """All subfolders."""
        return *self.queues, self.dead, self.quarantine

    def queue_of(self, table: Table) -> SpoolFolder:
        """Return the folder where batches for `table` wait."""
        return self.candles if table is Table.KLINES else self.updates

    def refresh(self, files: Files) -> None:
        """List all folders anew."""
        for folder in self.all:
            folder.refresh(files)

    def refuse_newer(self, files: Files) -> None:
        """Check that the formats of all segments are known.

        Raises:
            SegmentTooNew: a newer klineagent wrote a segment; nothing was changed.
        """
        for folder in (*self.queues, self.dead):
            for name in folder.names:
                try:
                    folder.refuse_newer(files, name)
                except SegmentTooNew as error:
                    raise SegmentTooNew(f"spool file {folder.path}/{name}: {error}") from error

    def open(self, files: Files, folder: SpoolFolder, name: str) -> Contents | None:
        """Read a segment; None if it is gone, or damaged and therefore moved to quarantine."""
        try:
            return folder.read(files, name)
        except FileNotFoundError:
            folder.remove(files, name)
            return None
        except SegmentDamaged as error:
            damage = str(error)
        folder.move(files, name, self.quarantine)
        log.error("segment_damaged", segment=f"{folder.path}/{name}", reason=damage)
        return None

    def retry(self, files: Files, name: str) -> Batch | None:
        """Put a dead letter back into its queue; None if it is gone or damaged.

        If the process dies in between, the letter is in both places; storing its rows twice changes
        nothing.
        """
        contents = self.open(files, self.dead, name)
        if contents is None:
            return None
        # The database may know the old token, and would drop the rows as duplicates.
        batch = evolve(contents.batch, token=f"{secrets.token_hex(6)}-retry")
        queue = self.queue_of(batch.table)
        queue.put(files, renewed_name(name), encode(Contents(batch)))
        self.dead.remove(files, name)
        return batch
