"""Adoption of the spool of an agent that recorded another venue for itself."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import structlog
import trio

from klineagent.core.errors import SpoolError
from klineagent.storage.spool.disk import (
    TEMPORARY,
    Files,
    Folder,
    translated_errors,
    write_durably,
)
from klineagent.storage.spool.folders import SpoolFolders

log = structlog.get_logger()


async def adopt_spools(earlier: Iterable[Path], into: Folder) -> None:
    """Adopt each of the `earlier` spools; see `adopt_spool`."""
    for old in earlier:
        await adopt_spool(old, into)


async def adopt_spool(old: Path, into: Folder) -> None:
    """Move all batches of the spool in `old` to another one; leave them if an agent uses `old`.

    The caller has locked `into`, and lists it afterwards.

    Names of segments are unique in all spools. A process that dies meanwhile leaves each file in
    one of the two folders or in both, and the next start moves the rest.
    """
    if not await trio.Path(old).is_dir():
        return
    spool = Folder(old)
    try:
        async with spool.hold():
            moved = await spool.run(lambda files: _move_all(old, files, into))
    except SpoolError as error:
        log.warning("spool_not_adopted", spool=str(old), reason=str(error))
    else:
        if moved:
            log.info("spool_adopted", spool=str(old), files=moved)


def _move_all(old: Path, files: Files, into: Folder) -> int:
    moved = 0
    for folder in (each.path for each in SpoolFolders().all):
        if not (old / folder).is_dir():
            continue
        with translated_errors(into.label):
            into.files.make_folder(folder)
        names = sorted(name for name in files.sizes(folder) if not name.endswith(TEMPORARY))
        for name in names:
            _move(old / folder / name, folder, into)
        with translated_errors(into.label):
            into.files.sync_folder(folder)
        files.sync_folder(folder)
        moved += len(names)
    return moved


def _move(file: Path, folder: str, into: Folder) -> None:
    try:
        file.rename(into.path / folder / file.name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # The folders are on two file systems.
        content = file.read_bytes()
        with translated_errors(into.label):
            write_durably(into.files, folder, file.name, content)
        file.unlink()
