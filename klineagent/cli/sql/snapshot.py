"""Where the tables of a folder are read: in a snapshot, by its agent or by ourselves."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from klineagent.api.models.contract import Done
from klineagent.api.models.snapshots import SnapshotTaken
from klineagent.cli.remote.connection import Address, open_connection
from klineagent.cli.running import run
from klineagent.cli.sql.source import Source
from klineagent.core.errors import (
    AgentDenied,
    AgentError,
    AgentRefused,
    AgentUnreachable,
    StartError,
    StoreMisconfigured,
)
from klineagent.storage.clickhouse.embedded_errors import LOCK, engine_error, unwritable
from klineagent.storage.clickhouse.freezing import freezing
from klineagent.storage.clickhouse.session import load_engine, run_steps
from klineagent.storage.held_folders import held
from klineagent.storage.snapshots import Frozen, FrozenTable, new_name, sweep_snapshots
from klineagent.storage.url import DEFAULT_DATABASE, FolderLocation

PATIENCE_S = 3
RETRY_S = 0.1
GIVES_WAY = 10
"""As `nice` has it."""


@frozen
class Readable:
    """A snapshot that is ours, and what it is of."""

    frozen: Frozen
    label: str
    """The URL of the folder it was taken of."""
    as_of: str | None
    """Up to when it holds all closed candles that were received; None if that is unknown."""


@contextmanager
def open_snapshot(source: Source, location: FolderLocation) -> Iterator[Readable]:
    """Have a snapshot of the tables in a folder until the block ends; then it is removed.

    A folder in use is asked of its agent. If there is no folder and it is only the default one,
    whatever folder the agent has is taken.

    Raises:
        StartError: nothing has been recorded in the folder.
        AgentError: the folder's agent takes no snapshot, or another agent is at the address.
        StoreError: the folder cannot be used.
    """
    with ExitStack() as ours:
        readable = _take(source, location, ours)
        try:
            try:
                ours.enter_context(held(readable.frozen.folder))
            except OSError as error:
                raise AgentRefused(
                    f"the agent's snapshot in {readable.frozen.folder} cannot be read from here:"
                    f" {error.strerror}; run this on the agent's machine, as its user"
                ) from error
            yield readable
        finally:
            _remove(readable.frozen, source.address)


def needs_agent(source: Source, location: FolderLocation) -> bool:
    """Return whether only an agent can say what is in the folder, or which one is meant."""
    return is_in_use(location.folder) or _is_absent(source, location)


def _is_absent(source: Source, location: FolderLocation) -> bool:
    return source.is_default and not location.folder.exists()


def _take(source: Source, location: FolderLocation, ours: ExitStack) -> Readable:
    if _is_absent(source, location):
        try:
            return _ask_agent(source.address, None)
        except AgentUnreachable as error:
            raise StartError(
                f"nothing has been recorded in {location.folder}: no such folder; and {error}"
            ) from error
    demand_an_engine(location.folder)
    # Who takes a snapshot has a free folder for a moment, and an agent that starts does not answer.
    patient_until = time.monotonic() + PATIENCE_S
    while True:
        try:
            if is_in_use(location.folder):
                return _ask_agent(source.address, location)
            return _freeze(location, ours)
        except (AgentUnreachable, StoreMisconfigured) as error:
            is_over = time.monotonic() > patient_until
            if is_over or not (isinstance(error, AgentUnreachable) or is_in_use(location.folder)):
                raise
            time.sleep(RETRY_S)


def is_in_use(folder: Path) -> bool:
    """Return whether a process has the engine's `folder` open."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # opening it fails, and says why
    return False


def demand_an_engine(folder: Path) -> None:
    """Refuse a folder without a database, because the engine would create one there.

    Raises:
        StartError: there is none.
    """
    try:
        was_here, is_there = (folder / "metadata").is_dir(), folder.is_dir()
    except OSError as error:
        raise StartError(f"cannot read {folder}: {error.strerror}") from error
    if not was_here:
        reason = "it holds no database" if is_there else "no such folder"
        raise StartError(f"nothing has been recorded in {folder}: {reason}")


def _ask_agent(address: Address, wanted: FolderLocation | None) -> Readable:
    async def take() -> SnapshotTaken:
        async with open_connection(address) as connection:
            return (await connection.command(SnapshotTaken, "POST", "/v1/snapshots", {})).value

    try:
        taken = run(take)
    except AgentUnreachable as error:
        if wanted is None:
            raise
        raise AgentUnreachable(
            f"{wanted.label} is in use, and {str(error).partition(';')[0]}; say where the agent"
            " that records into it is with --agent"
        ) from error
    except AgentDenied as error:
        raise AgentDenied(
            f"{error}; a folder in use is read from a snapshot, for which the agent wants the token"
            " that commands, not one that only reads"
        ) from error
    frozen = Frozen(
        taken.name,
        Path(taken.folder),
        taken.database,
        tuple(FrozenTable(each.name, each.create, each.parts) for each in taken.tables),
    )
    folder = frozen.folder.parents[1]
    if wanted is not None and not _is_same(folder, wanted.folder):
        _remove(frozen, address)
        raise AgentRefused(
            f"the agent at {address.label} records into {folder}, not {wanted.folder}; say where"
            " the agent of that folder is with --agent"
        )
    # The engine's threads, which begin later, leave the processor to the agent where it is short.
    os.setpriority(os.PRIO_PROCESS, 0, max(GIVES_WAY, os.getpriority(os.PRIO_PROCESS, 0)))
    return Readable(frozen, FolderLocation(folder=folder).label, taken.as_of)


def _is_same(folder: Path, other: Path) -> bool:
    try:
        return folder.samefile(other)
    except OSError:
        return False


def _freeze(location: FolderLocation, opened: ExitStack) -> Readable:
    """Open a folder that is free for as long as a freeze takes."""
    open_session = load_engine(location.label)
    folder = location.folder.resolve()
    try:
        # In turns with other commands: the engine prints that it could not lock the folder.
        with held(folder, alone=True):
            session = open_session(str(folder))
            try:
                sweep_snapshots(folder, older_than_s=0)
                steps = freezing(DEFAULT_DATABASE, new_name(), folder)
                frozen = run_steps(steps, session, location)
                # While no other process can hold the folder, and sweep it.
                opened.enter_context(held(frozen.folder))
            finally:
                session.close()
    except RuntimeError as error:
        raise engine_error(location, error) from error
    except OSError as error:
        raise unwritable(location, error) from error
    if not any(table.name == "klines_final" for table in frozen.tables):
        shutil.rmtree(frozen.folder, ignore_errors=True)
        raise StartError(f"nothing has been recorded in {location.folder}: it has no klines_final")
    return Readable(frozen, location.label, None)


def _remove(frozen: Frozen, address: Address) -> None:
    if frozen.folder.exists():
        shutil.rmtree(frozen.folder, ignore_errors=True)
        if not frozen.folder.exists():
            return
    # It is another user's, or another machine's.

    async def ask() -> None:
        async with open_connection(address) as connection:
            await connection.command(Done, "DELETE", f"/v1/snapshots/{frozen.name}", {})

    try:
        run(ask)
    except AgentError:
        return  # the agent removes it later
