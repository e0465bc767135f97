"""Folders whose permissions hold, also where root runs the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = 0
NOBODY = 65534


@contextmanager
def folder_of_others(mode: int) -> Iterator[Path]:
    """Yield a folder with this mode; if root, run as user nobody until the block ends."""
    # Not in `tmp_path`, which only its owner may read.
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(mode)
        user = os.geteuid()
        if user == ROOT:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(user)
