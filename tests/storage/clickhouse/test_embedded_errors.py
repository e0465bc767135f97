from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from klineagent.core.errors import StoreError, StoreMisconfigured, StoreOverloaded, StoreUnavailable
from klineagent.storage.clickhouse.embedded_errors import engine_error, unwritable
from klineagent.storage.url import FolderLocation

HERE = FolderLocation(folder=Path("/x"))
FILESYSTEM = "Code: 1001. DB::Exception: std::__1::filesystem::filesystem_error: filesystem error: "
NOT_BEGUN = (
    "Failed to create connection: Code: 36. DB::Exception: Error initializing EmbeddedServer:"
    " std::exception. Code: 1001, type: std::__1::filesystem::filesystem_error, e.what() = "
)
NOT_OPENED = "Code: 76. DB::ErrnoException: Cannot open file "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f'{FILESYSTEM}in create_directories: File exists ["/x/metadata"]. (STD_EXCEPTION)',
            "a file is in the way of /x/metadata",
        ),
        (
            f'{FILESYSTEM}in create_directories: Permission denied ["/x/y z"]. (STD_EXCEPTION)',
            "there is no permission for /x/y z",
        ),
        (
            f'{NOT_BEGUN}filesystem error: in remove_all: Not a directory ["/x/data/y/"], Stack',
            "a file is in the way of /x/data/y/",
        ),
        (
            f"{NOT_OPENED}/x/y.tmp: , errno: 30, strerror: Read-only file system. (CANNOT_OPEN_",
            "nothing can be written to /x/y.tmp",
        ),
        (
            f"{NOT_OPENED}/x/y.bin: , errno: 13, strerror: Permission denied: (while reading from",
            "there is no permission for /x/y.bin",
        ),
    ],
)
def test_what_is_wrong_with_files_is_the_operators(text: str, reason: str) -> None:
    """It does not resolve by itself, so the error names the path."""
    error = engine_error(HERE, RuntimeError(text))
    assert type(error) is StoreMisconfigured
    assert str(error) == f"chdb:///x cannot be used: {reason}"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Code: 243. DB::Exception: Cannot reserve 1.00 MiB. (NOT_ENOUGH_SPACE)", StoreOverloaded),
        (f'{FILESYSTEM}in create_directories: No space left on device ["/x"].', StoreUnavailable),
        ("what?", StoreUnavailable),
    ],
)
def test_a_full_disk_and_what_nobody_can_read_may_pass(text: str, kind: type[StoreError]) -> None:
    """The rows stay with the sender, who tries again."""
    assert type(engine_error(HERE, RuntimeError(text))) is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, StoreMisconfigured),
        (errno.EROFS, StoreMisconfigured),
        (errno.ENOSPC, StoreOverloaded),
        (errno.EDQUOT, StoreOverloaded),
    ],
)
def test_what_cannot_be_written_passes_if_the_disk_is_full(
    number: int, kind: type[StoreError]
) -> None:
    """Otherwise it is the operator's."""
    error = unwritable(HERE, OSError(number, os.strerror(number), "/x/status"))
    assert type(error) is kind
    assert os.strerror(number) in str(error)
    assert str(error).startswith("chdb:///x cannot be written: ")
