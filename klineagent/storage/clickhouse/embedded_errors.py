"""Maps the embedded engine's errors to our errors."""

from __future__ import annotations

import errno
import fcntl
import re
from pathlib import Path

from klineagent.core.errors import StoreError, StoreMisconfigured, StoreOverloaded, StoreUnavailable
from klineagent.storage.clickhouse.errors import error_of
from klineagent.storage.path_checks import blocked_by, inaccessible_path
from klineagent.storage.url import FolderLocation

LOCK = "status"
"""The file in a folder that the engine opens and locks first."""
_ERROR = re.compile(r"Code: (\d+)\. DB::Exception: (.*)", re.DOTALL)
# Searched in any message of the engine, including that it failed to start.
_OF_FILES = (
    re.compile(r'filesystem error: in \w+: (?P<reason>[^\["]+) \["(?P<path>[^"]+)"\]'),
    re.compile(r"Cannot open file (?P<path>.+?): , errno: \d+, strerror: (?P<reason>[\w -]+)"),
)
_BLOCKED = "a file is in the way of"
# Errors that do not resolve by themselves, as a full disk may.
_LASTING = {
    "File exists": _BLOCKED,
    "Not a directory": _BLOCKED,
    "Operation not permitted": "there is no permission for",
    "Permission denied": "there is no permission for",
    "Read-only file system": "nothing can be written to",
}
# Both have the code BAD_ARGUMENTS.
_NOT_BEGUN = "Error initializing EmbeddedServer"
_OTHER_FOLDER = "EmbeddedServer already initialized"


def engine_error(location: FolderLocation, error: RuntimeError) -> StoreError:
    """Convert the engine's `error` on this folder; may look at the folder to find the reason."""
    label, text = location.label, str(error)
    for pattern in _OF_FILES:
        if (file := pattern.search(text)) and (trouble := _LASTING.get(file["reason"])):
            # The engine may name a path far below the file that blocks it.
            in_the_way = blocked_by(Path(file["path"])) if trouble == _BLOCKED else None
            return _unusable(location, in_the_way or f"{trouble} {file['path']}")
    if (found := _ERROR.search(text)) is None:
        return StoreUnavailable(f"{label}: {text}")
    code, message = int(found[1]), found[2]
    if message.startswith(_NOT_BEGUN):
        return _not_begun(location)
    if message.startswith(_OTHER_FOLDER):
        return StoreMisconfigured(f"{label}: this process has another folder open")
    return error_of(label, code, message)


def unwritable(location: FolderLocation, error: OSError) -> StoreError:
    """Make the error for a file or folder that could not be created or written."""
    if isinstance(error, FileExistsError | NotADirectoryError) and (
        found := blocked_by(location.folder)
    ):
        return _unusable(location, found)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    kind = StoreOverloaded if full else StoreMisconfigured
    return kind(f"{location.label} cannot be written: {error}")


def is_passing(location: FolderLocation, error: RuntimeError) -> bool:
    """Return whether the engine did not begin because of a lock that is gone.

    Commands lock a folder for a moment, to learn whether it is in use.
    """
    if _NOT_BEGUN not in str(error):
        return False
    try:
        _lock_for_a_moment(location)
    except OSError:
        return False
    return True


def _not_begun(location: FolderLocation) -> StoreError:
    # The engine prints the reason on standard error, if at all; so its first steps are repeated.
    try:
        _lock_for_a_moment(location)
    except BlockingIOError:
        return StoreMisconfigured(
            f"{location.label} is in use by another process; stop the agent that"
            " records into it first, or name another store with --store"
        )
    except OSError as error:
        return unwritable(location, error)
    if closed := inaccessible_path(location.folder):
        return _unusable(location, f"there is no permission for {closed}")
    return StoreMisconfigured(
        f"{location.label} cannot be opened; the engine may have printed why on standard error"
    )


def _lock_for_a_moment(location: FolderLocation) -> None:
    with (location.folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _unusable(location: FolderLocation, reason: str) -> StoreMisconfigured:
    return StoreMisconfigured(f"{location.label} cannot be used: {reason}")
