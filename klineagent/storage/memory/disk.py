"""A disk in memory, without threads; it can end by a killed process or by power loss."""

from __future__ import annotations

import copy
import enum
import errno
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import TypeVar

import trio
from attrs import define, field, frozen

from klineagent.core.errors import SpoolError
from klineagent.storage.spool.disk import Files, translated_errors

T = TypeVar("T")


class ProcessDied(Exception):
    """The simulated process of this disk has died; no code of it should run any more."""


class Step(enum.Enum):
    """A system call."""

    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    RENAME = "rename"
    SYNC_FOLDER = "sync_folder"
    UNLINK = "unlink"


@define(eq=False)
class _File:
    content: bytes = b""
    """The content that processes see."""
    durable: bytes = b""
    """The content that survives power loss."""
    abandoned: bool = False
    """Whether a sync failed: then the kernel marks unwritten pages as clean."""


@frozen
class _Change:
    """A change of names: one removed, one added, or both."""

    old: str | None
    new: str | None
    file: _File

    def touches(self, folder: str) -> bool:
        return any(
            path is not None and path.rpartition("/")[0] == folder for path in (self.old, self.new)
        )

    def apply(self, names: dict[str, _File]) -> None:
        if self.old is not None:
            names.pop(self.old, None)
        if self.new is not None:
            names[self.new] = self.file


@define(eq=False)
class _Platter:
    """The files that processes see, and those that survive power loss."""

    names: dict[str, _File] = field(factory=dict)
    _durable: dict[str, _File] = field(factory=dict, init=False)
    _unsynced: list[_Change] = field(factory=list, init=False)
    """Changes of names since they were synced, in order."""

    def change(self, change: _Change) -> None:
        change.apply(self.names)
        self._unsynced.append(change)

    def sync_folder(self, path: str) -> None:
        for change in self._unsynced:
            if change.touches(path):
                change.apply(self._durable)
        self._unsynced = [change for change in self._unsynced if not change.touches(path)]

    def write_back(self, random: Random) -> None:
        # Names in order, as journaling file systems write them; contents in any order.
        written = random.randint(0, len(self._unsynced))
        for change in self._unsynced[:written]:
            change.apply(self._durable)
        del self._unsynced[:written]
        for file in self.names.values():
            if not file.abandoned and _heads(random):
                file.durable = file.content

    def lose_power(self, random: Random) -> None:
        for change in self._unsynced:
            if _heads(random):
                change.apply(self._durable)
        self._unsynced.clear()
        for file in self._durable.values():
            file.content = file.durable = _remains(file, random)
        self.names = dict(self._durable)


def _heads(random: Random) -> bool:
    return bool(random.getrandbits(1))


@define(eq=False, kw_only=True)
class MemoryDisk:
    """See `Disk` and `Files`, both of which it implements.

    `kill` and `crash` end it, and return the disk that the next process finds.
    """

    label: str = "memory:"
    capacity_bytes: float = math.inf
    _platter: _Platter = field(factory=_Platter)
    _held: bool = field(default=False, init=False)
    _steps_left: float = field(default=math.inf, init=False)
    _failing: Counter[Step] = field(factory=Counter, init=False)
    _full: int = field(default=0, init=False)

    @property
    def paths(self) -> list[str]:
        """The paths of all files."""
        return sorted(self._platter.names)

    # Faults.

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill the disk until the end of the block."""
        self._full += 1
        try:
            yield
        finally:
            self._full -= 1

    @contextmanager
    def failing(self, step: Step) -> Iterator[None]:
        """Let every such step fail with EIO until the end of the block."""
        self._failing[step] += 1
        try:
            yield
        finally:
            self._failing[step] -= 1

    @contextmanager
    def failing_sync(self) -> Iterator[None]:
        """Let every sync of content fail until the end of the block."""
        with self.failing(Step.SYNC):
            yield

    def damage(self, path: str, content: bytes) -> None:
        """Replace a file's content, as a bad disk does."""
        file = self._platter.names[path]
        file.content = file.durable = content

    # Ends of the process.

    def die_after(self, steps: int) -> None:
        """Let the process die in the operation that takes one more step than `steps`."""
        self._steps_left = steps

    def kill(self) -> MemoryDisk:
        """End the process like `kill -9`: its writes remain, an unfinished one is cut."""
        self._steps_left = 0
        return self.copy()

    def crash(self, random: Random) -> MemoryDisk:
        """Cut the power: any part of what was not synced remains."""
        left = copy.deepcopy(self._platter)
        left.lose_power(random)
        self._steps_left = 0
        return self._with(left)

    def copy(self) -> MemoryDisk:
        """Copy the disk as another process would find it now."""
        return self._with(copy.deepcopy(self._platter))

    def _with(self, platter: _Platter) -> MemoryDisk:
        return MemoryDisk(label=self.label, capacity_bytes=self.capacity_bytes, platter=platter)

    def write_back(self, random: Random) -> None:
        """Let the kernel write back some unsynced data."""
        self._platter.write_back(random)

    # `Disk`.

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """See `Disk`."""
        await trio.lowlevel.checkpoint()
        if self._held:
            raise SpoolError(f"spool {self.label} is in use by another agent")
        self._held = True
        try:
            yield
        finally:
            self._held = False

    async def run(self, work: Callable[[Files], T]) -> T:
        """See `Disk`."""
        await trio.lowlevel.checkpoint()
        with translated_errors(self.label):
            return work(self)

    # `Files`.

    def make_folder(self, path: str) -> None:
        """See `Files`. Folders exist implicitly."""

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Files`."""
        self._check_alive()
        paths = ((path.rpartition("/"), file) for path, file in self._platter.names.items())
        return {name: len(file.content) for (parent, _, name), file in paths if parent == folder}

    def read(self, path: str) -> bytes:
        """See `Files`."""
        self._check_alive()
        self._check(Step.READ)
        return self._named(path).content

    def begin(self, path: str, size: int) -> bytes:
        """See `Files`."""
        self._check_alive()
        return self._named(path).content[:size]

    def write(self, path: str, content: bytes) -> None:
        """See `Files`."""
        self._step(Step.WRITE)
        if path in self._platter.names:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        file = _File()
        self._platter.change(_Change(None, path, file))
        fits = min(len(content), self._room())
        # In two halves, so that a file can be incomplete.
        for end in (fits // 2, fits):
            self._step(Step.WRITE)
            file.content = content[:end]
        if fits < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            self._step(Step.SYNC)
        except OSError:
            file.abandoned = True
            raise
        file.durable = content

    def rename(self, old: str, new: str) -> None:
        """See `Files`."""
        self._step(Step.RENAME)
        self._platter.change(_Change(old, new, self._named(old)))

    def sync_folder(self, path: str) -> None:
        """See `Files`."""
        self._step(Step.SYNC_FOLDER)
        self._platter.sync_folder(path)

    def unlink(self, path: str) -> None:
        """See `Files`."""
        self._step(Step.UNLINK)
        if path in self._platter.names:
            self._platter.change(_Change(path, None, self._platter.names[path]))

    def _named(self, path: str) -> _File:
        if path not in self._platter.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._platter.names[path]

    def _room(self) -> int:
        used = sum(len(file.content) for file in self._platter.names.values())
        left = 0 if self._full else self.capacity_bytes - used
        return int(min(max(left, 0), 2**62))

    def _step(self, step: Step) -> None:
        self._check_alive()
        self._steps_left -= 1
        self._check(step)

    def _check_alive(self) -> None:
        if self._steps_left <= 0:
            raise ProcessDied

    def _check(self, step: Step) -> None:
        if self._failing[step]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _remains(file: _File, random: Random) -> bytes:
    """Pick what power loss leaves: all, a beginning, or zeros for blocks not written."""
    if file.durable == file.content:
        return file.content
    beginning = file.content[: random.randint(0, len(file.content))]
    zeros = bytes(len(file.content))
    return random.choice([file.durable, beginning, zeros, file.content])
