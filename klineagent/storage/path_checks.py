"""Finds out why a folder cannot be used, after something has failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def blocked_by(path: Path) -> str | None:
    """Describe the file that blocks a folder at `path`; None if there is none."""
    for each in (path, *path.parents):
        if os.path.lexists(each):
            # Not `Path.is_dir`, which raises if a link leads to a path without permission.
            if os.path.isdir(each):  # noqa: PTH112
                return None
            return f"{each} is {'a file, not a folder' if each.exists() else 'a link to nothing'}"
    return None


def inaccessible_path(folder: Path) -> Path | None:
    """Return the first path in `folder`, or itself, without the needed permissions; else None.

    Folders need all permissions, files that of reading; links are not followed.
    """
    for path, mode in _paths(folder):
        # With the effective user, as when a file is opened.
        if not path.is_symlink() and not os.access(path, mode, effective_ids=True):
            return path
    return None


def _paths(folder: Path) -> Iterator[tuple[Path, int]]:
    """Iterate over `folder` and all in it, parents first, with the permissions each needs."""
    everything = os.R_OK | os.W_OK | os.X_OK
    yield folder, everything
    for name, folders, files in os.walk(folder):
        yield from ((Path(name, each), everything) for each in folders)
        yield from ((Path(name, each), os.R_OK) for each in files)
