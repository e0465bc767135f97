"""A folder on disk, with operations that state what survives a crash or power loss."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import trio
from attrs import define, field

from klineagent.core.errors import SpoolBroken, SpoolError, SpoolFull
from klineagent.storage.path_checks import blocked_by

T = TypeVar("T")

TEMPORARY = ".tmp"
"""The suffix of files not complete yet; one found at a start never will be."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOCK = "lock"


class Files(Protocol):
    """Files by their paths below one folder. Synchronous; all methods may raise `OSError`."""

    def make_folder(self, path: str) -> None:
        """Create a folder if needed; on return it survives power loss."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of each file in `folder`, by name."""

    def read(self, path: str) -> bytes:
        """Read a file."""

    def begin(self, path: str, size: int) -> bytes:
        """Read the first `size` bytes of a file, or fewer if it is shorter."""

    def write(self, path: str, content: bytes) -> None:
        """Create a file; its content survives power loss, its name not yet."""

    def rename(self, old: str, new: str) -> None:
        """Rename a file atomically, as processes see it; replaces a file of the new name."""

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder survive power loss."""

    def unlink(self, path: str) -> None:
        """Delete a file, as processes see it; power loss may bring it back."""


class Disk(Protocol):
    """Files that one agent at a time uses."""

    @property
    def label(self) -> str:
        """The name users know it by."""

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Lock it against other agents until the block ends.

        Raises:
            SpoolError: another agent has locked it.
        """

    async def run(self, work: Callable[[Files], T]) -> T:
        """Call `work`, one call at a time; a call that has begun is not cancelled.

        Raises:
            SpoolError: `work` raised an `OSError`.
        """


@contextmanager
def translated_errors(label: str) -> Iterator[None]:
    """Convert an `OSError` to a `SpoolError`."""
    try:
        yield
    except OSError as error:
        # Without the file's name: the label says where, and the name does not help.
        reason = error.strerror or str(error)
        kind = SpoolFull if is_full(error) else SpoolBroken
        raise kind(f"spool {label}: {reason}") from error


def is_full(error: OSError) -> bool:
    """Return whether the disk or the quota is full."""
    return error.errno in _FULL


def write_durably(files: Files, folder: str, name: str, content: bytes) -> None:
    """Create or replace file `name` atomically; on return it survives power loss.

    After an error the file is deleted. A second fdatasync would not help: the kernel reports a page
    it could not write only once, then marks it as clean.
    """
    path = f"{folder}/{name}" if folder else name
    made = path + TEMPORARY
    try:
        files.write(made, content)
        files.rename(made, path)
        made = path
        files.sync_folder(folder)
    except OSError:
        with suppress(OSError):
            files.unlink(made)
        raise


@define
class _RealFiles:
    """See `Files`."""

    _root: Path

    def make_folder(self, path: str) -> None:
        _make_folder(self._root / path)

    def sizes(self, folder: str) -> dict[str, int]:
        sizes = {}
        with os.scandir(self._root / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # gone since it was listed
                    if entry.is_file(follow_symlinks=False):
                        sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def begin(self, path: str, size: int) -> bytes:
        with (self._root / path).open("rb") as file:
            return file.read(size)

    def write(self, path: str, content: bytes) -> None:
        file = os.open(self._root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            unwritten = memoryview(content)
            while unwritten:
                unwritten = unwritten[os.write(file, unwritten) :]
            os.fdatasync(file)
        finally:
            os.close(file)

    def rename(self, old: str, new: str) -> None:
        (self._root / old).replace(self._root / new)

    def sync_folder(self, path: str) -> None:
        _sync_folder(self._root / path)

    def unlink(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@define(eq=False)
class Folder:
    """See `Disk`: a folder of the file system, accessed in a worker thread."""

    path: Path
    lock: str = _LOCK
    """The file that is locked while an agent uses the folder, or its part of it."""
    _turns: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1), init=False)

    @property
    def label(self) -> str:
        """See `Disk`."""
        return str(self.path)

    @property
    def files(self) -> Files:
        """The files, for commands that run beside an agent."""
        return _RealFiles(self.path)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """See `Disk`. Creates the folder; the lock is the kernel's, and ends with the process."""
        lock = await self.run(self._lock)
        try:
            yield
        finally:
            os.close(lock)

    async def run(self, work: Callable[[Files], T]) -> T:
        """See `Disk`."""

        def call() -> T:
            with translated_errors(self.label):
                return work(self.files)

        return await trio.to_thread.run_sync(call, limiter=self._turns)

    def _lock(self, _: Files) -> int:
        try:
            _make_folder(self.path)
        except (FileExistsError, NotADirectoryError) as error:
            reason = blocked_by(self.path) or error.strerror
            raise SpoolBroken(f"spool {self.label}: {reason}") from error
        lock = os.open(self.path / self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SpoolError(
                f"spool {self.label} is in use by another agent: stop that agent"
            ) from None
        except OSError:
            os.close(lock)
            raise
        return lock
