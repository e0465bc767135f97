"""Snapshots of an embedded database for other processes: hard links to the files of its tables.

A folder is open in one process only, so no other can query it. But the files of a table's parts
never change. A snapshot links those of one moment under `shadow/NAME`, which takes milliseconds and
no copy; another process makes tables of its own on them. It holds the disk space of parts that are
merged since, until it is removed.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog
import trio
from attrs import define, field, frozen

from klineagent.core.errors import StoreOverloaded
from klineagent.storage.held_folders import sweep

# Each holds disk space; more at a time are a client that forgets to remove its own.
MOST_SNAPSHOTS = 20
KEPT_S = 3600
"""How long a snapshot is kept that is not removed; longer while a process holds it."""
SWEEP_EVERY_S = 60
# Removing hard links takes milliseconds; a disk that takes longer leaves them to the sweep.
_REMOVED_WITHIN_S = 5
_FOLDER = "shadow"
# Without signs that the engine would escape in the name of the folder.
_PREFIX = "klineagent_"

log = structlog.get_logger()


@frozen
class FrozenTable:
    """A table or view in a snapshot."""

    name: str
    create: str
    """The statement that creates it."""
    parts: str | None
    """The folder in the snapshot with a folder per part; None of a view."""


@frozen
class Frozen:
    """A snapshot: where its files are, and what they belong to."""

    name: str
    folder: Path
    database: str
    tables: tuple[FrozenTable, ...]
    """In the order in which they can be created."""


def snapshot_folder(folder: Path, name: str) -> Path:
    """Return where an engine puts what it freezes in its `folder` under `name`."""
    return folder / _FOLDER / name


def new_name() -> str:
    """Make a name for a snapshot, which no other has."""
    return f"{_PREFIX}{secrets.token_hex(6)}"


def sweep_snapshots(folder: Path, *, older_than_s: float) -> list[str]:
    """Remove an engine's snapshots that are so old and held by no process; return their names."""
    return sweep(folder / _FOLDER, _PREFIX, older_than_s=older_than_s)


@define(eq=False)
class Snapshots:
    """The snapshots in an engine's folder; freezing goes through the engine, removing does not."""

    _folder: Path
    _freeze: Callable[[str], Awaitable[Frozen]]
    """Freezes all tables under a name; raises `StoreError`s."""
    # One at a time, so that each is counted before the next.
    _taking: trio.Lock = field(factory=trio.Lock, init=False)

    async def take(self) -> Frozen:
        """Freeze all tables; nothing is left if that fails, or if the caller is cancelled.

        Raises:
            StoreError: the engine failed, or too many snapshots are kept.
        """
        async with self._taking:
            if len(await trio.to_thread.run_sync(self._names)) >= MOST_SNAPSHOTS:
                raise StoreOverloaded(
                    f"{MOST_SNAPSHOTS} snapshots are kept already; each is removed by a DELETE, or"
                    f" after {KEPT_S // 60} minutes"
                )
            name, is_taken = new_name(), False
            try:
                frozen = await self._freeze(name)
                # The engine's thread ends its work although the caller has left.
                await trio.lowlevel.checkpoint_if_cancelled()
                is_taken = True
                return frozen
            finally:
                if not is_taken:
                    with trio.move_on_after(_REMOVED_WITHIN_S, shield=True):
                        await self.remove(name)

    async def remove(self, name: str) -> bool:
        """Remove a snapshot, held or not; return whether there was one."""
        return await trio.to_thread.run_sync(self._remove, name)

    async def keep_swept(self) -> NoReturn:
        """Remove what an earlier process left, and from then on what is left too long."""
        # The folder is ours: a process with an earlier snapshot holds it, or has died.
        older_than_s = 0
        while True:
            if removed := await self.sweep(older_than_s=older_than_s):
                log.info("snapshots_removed", snapshots=removed)
            older_than_s = KEPT_S
            await trio.sleep(SWEEP_EVERY_S)

    async def sweep(self, *, older_than_s: float) -> list[str]:
        """See `sweep_snapshots`."""
        remove = partial(sweep_snapshots, self._folder, older_than_s=older_than_s)
        return await trio.to_thread.run_sync(remove)

    def _names(self) -> set[str]:
        return {each.name for each in (self._folder / _FOLDER).glob(f"{_PREFIX}*")}

    def _remove(self, name: str) -> bool:
        # Compared with those there are: a name from outside may lead anywhere.
        if name not in self._names():
            return False
        shutil.rmtree(snapshot_folder(self._folder, name), ignore_errors=True)
        return True
