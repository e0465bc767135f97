"""Folders that go with their holder: locked while it lives, removed by others once it is gone.

A lock of the system ends with its process, however that ends. So what was killed leaves folders
that no process holds, and the next process that makes one removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Keep `folder` from being swept away until the block ends; permission to read suffices.

    Any number of holders share it, but who wants it `alone` waits for the others, and they for it.

    Raises:
        OSError: there is no such folder, or no permission.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        folder.stat()  # it may have been swept away while we waited
        yield
    finally:
        os.close(handle)


def sweep(parent: Path, prefix: str, *, older_than_s: float) -> list[str]:
    """Remove the folders in `parent` that begin with `prefix`, are so old, and held by no process.

    The age leaves a process that has just made a folder the time to hold it.

    Returns:
        The names of those removed.
    """
    removed = []
    for folder in sorted(parent.glob(f"{prefix}*")):
        # It may go at this moment, or be another user's.
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime >= older_than_s:
                _remove(folder)
                removed.append(folder.name)
    return removed


def _remove(folder: Path) -> None:
    """Remove `folder` while no other process can hold it.

    Raises:
        OSError: somebody holds it, or it cannot be removed.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(handle)
