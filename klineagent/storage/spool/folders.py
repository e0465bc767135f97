"""The subfolders of a spool, and the segments that lie in them. Synchronous."""

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
    """The segments of one subfolder, in the order they were made.

    What it knows is what the last listing said and its own calls have changed since. Commands of
    an operator come and go beside it, so a file that is gone is no error anywhere.
    """

    path: str
    size_bytes: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)
    # A plain dict looks through all it has ever dropped for its first entry.
    _sizes: OrderedDict[str, int] = field(factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def names(self) -> list[str]:
        """Of its segments, oldest first."""
        return list(self._sizes)

    @property
    def oldest(self) -> str | None:
        """The name of the segment that was made first."""
        return next(iter(self._sizes), None)

    def refresh(self, files: Files) -> None:
        """List the folder anew."""
        found = files.sizes(self.path)
        names = sorted(name for name in found if name.endswith(SUFFIX))
        # Replaced and not emptied first: other threads look at the length at any time.
        self._sizes = OrderedDict((name, found[name]) for name in names)
        self.size_bytes = sum(self._sizes.values())
        self.rows = sum(map(rows_of, names))

    def put(self, files: Files, name: str, data: bytes) -> None:
        """Add a segment newer than all others; it survives power loss."""
        write_durably(files, self.path, name, data)
        self._add(name, len(data))

    def read(self, files: Files, name: str) -> Contents:
        """What a segment holds.

        Raises:
            SegmentDamaged: not what was once written.
            SegmentTooNew: written by a newer klineagent.
            FileNotFoundError: it is gone.
        """
        try:
            return decode(files.read(self._file(name)))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # One bad block must not hold up all that lies behind it for good.
            raise SegmentDamaged(f"the disk cannot read it: {error.strerror}") from error

    def refuse_newer(self, files: Files, name: str) -> None:
        """Go on unless the segment is of a format not known here; damage is told when it is read.

        Raises:
            SegmentTooNew: it is.
        """
        with suppress(OSError, SegmentDamaged):
            if may_be_newer(files.begin(self._file(name), BEGINNING_SIZE)):
                self.read(files, name)

    def holds(self, files: Files, name: str, key: Key) -> bool:
        """Whether a segment has a closed state of that candle; one that is gone has none."""
        with suppress(FileNotFoundError, SegmentDamaged):
            rows = self.read(files, name).batch.klines
            return any(row.is_closed and row[:4] == key for row in rows)
        return False

    def remove(self, files: Files, name: str) -> None:
        """Delete a segment."""
        files.unlink(self._file(name))
        self._forget(name)

    def move(self, files: Files, name: str, other: SpoolFolder) -> None:
        """Put a segment on another folder, as it is."""
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
    """What the database will never take as it is."""
    quarantine: SpoolFolder = Factory(lambda: SpoolFolder("quarantine"))
    """Files that are not what was once written."""

    @property
    def queues(self) -> tuple[SpoolFolder, SpoolFolder]:
        """What waits for the database, in the order in which it should leave."""
        return self.candles, self.updates

    @property
    def all(self) -> tuple[SpoolFolder, ...]:
        """Each of them."""
        return *self.queues, self.dead, self.quarantine

    def queue_of(self, table: Table) -> SpoolFolder:
        """Where batches for `table` wait."""
        return self.candles if table is Table.KLINES else self.updates

    def refresh(self, files: Files) -> None:
        """List all folders anew."""
        for folder in self.all:
            folder.refresh(files)

    def refuse_newer(self, files: Files) -> None:
        """Go on unless a newer klineagent has written one of the segments.

        Raises:
            SegmentTooNew: one has; nothing was changed.
        """
        for folder in (*self.queues, self.dead):
            for name in folder.names:
                try:
                    folder.refuse_newer(files, name)
                except SegmentTooNew as error:
                    raise SegmentTooNew(f"spool file {folder.path}/{name}: {error}") from error

    def open(self, files: Files, folder: SpoolFolder, name: str) -> Contents | None:
        """What a segment holds; None if it is gone, or damaged and thus now in quarantine."""
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

        Dying on the way leaves it in both places, and its rows arrive twice: that is once.
        """
        contents = self.open(files, self.dead, name)
        if contents is None:
            return None
        # The database may have seen the old token, and would take the rows for known ones.
        batch = evolve(contents.batch, token=f"{secrets.token_hex(6)}-retry")
        queue = self.queue_of(batch.table)
        queue.put(files, renewed_name(name), encode(Contents(batch)))
        self.dead.remove(files, name)
        return batch
