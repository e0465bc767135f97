"""What keeps us from using a folder, found by looking at the disk after something has failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def blocked_by(path: Path) -> str | None:
    """What to tell of the file that is in the way of a folder at `path`; None if there is none."""
    for each in (path, *path.parents):
        if os.path.lexists(each):
            # Not by a method of the path: that raises where a link leads to what is closed to us.
            if os.path.isdir(each):  # noqa: PTH112
                return None
            return f"{each} is {'a file, not a folder' if each.exists() else 'a link to nothing'}"
    return None


def inaccessible_path(folder: Path) -> Path | None:
    """The first path in `folder`, or itself, that this process may not use; None if it may all.

    Folders must be open to everything, files to reading; what a link leads to is not looked at.
    """
    for path, mode in _paths(folder):
        # As whoever we act for, as when a file is opened.
        if not path.is_symlink() and not os.access(path, mode, effective_ids=True):
            return path
    return None


def _paths(folder: Path) -> Iterator[tuple[Path, int]]:
    """Everything in `folder`, each folder before what is in it, and how it must be open."""
    everything = os.R_OK | os.W_OK | os.X_OK
    yield folder, everything
    for name, folders, files in os.walk(folder):
        yield from ((Path(name, each), everything) for each in folders)
        yield from ((Path(name, each), os.R_OK) for each in files)
