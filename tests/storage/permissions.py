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
    """A folder with this mode; root may all, so it is nobody until the block ends."""
    # Not in `tmp_path`, which nobody but its owner may look into.
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
