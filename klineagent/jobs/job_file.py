"""The job file beside the state file: jobs survive restarts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath

import msgspec
import structlog
from attrs import frozen

from klineagent import __version__
from klineagent.core.errors import UNREADABLE, StateError, StateUnreadable
from klineagent.jobs.job import Job
from klineagent.series.desired.state_file import Head, StateFile
from klineagent.storage.spool.disk import TEMPORARY, Disk, Files, write_durably
from klineagent.storage.url import place

SUFFIX = ".jobs"
"""The suffix of the job file, after the name of the state file."""
_UNREADABLE = ".unreadable"
FORMAT = 1

log = structlog.get_logger()


class _Content(Head, frozen=True, kw_only=True):
    """The whole file."""

    store: str
    jobs: list[Job]


@frozen(kw_only=True)
class JobFile:
    """The job file `name` on `disk`, which must be locked by the caller."""

    disk: Disk
    name: str
    store: str
    """The place of the store that the jobs import into."""

    @classmethod
    def beside(cls, state: StateFile, *, store: str) -> JobFile:
        """Return the job file beside `state`, under its lock, for the store of that label."""
        return cls(disk=state.disk, name=state.name + SUFFIX, store=place(store))

    @property
    def label(self) -> str:
        """The path that messages show."""
        return str(PurePath(self.disk.label) / self.name)

    async def load(self) -> list[Job]:
        """Load what was saved last; an unreadable file is logged, and moved aside.

        Raises:
            StateUnreadable: a newer klineagent wrote the file, which stays as it is.
        """

        def read(files: Files) -> list[Job]:
            try:
                return decode(files.read(self.name), store=self.store)
            except FileNotFoundError:
                return []
            except (OSError, ValueError) as error:
                damage = str(error)
            with suppress(OSError):
                files.rename(self.name, self.name + _UNREADABLE)
            log.error("jobs_unreadable", error=damage, kept=self.name + _UNREADABLE)
            return []

        try:
            return await self.disk.run(read)
        except StateUnreadable as error:
            raise StateUnreadable(f"jobs {self.label}: {error}") from error

    async def save(self, jobs: Sequence[Job]) -> None:
        """Save `jobs`; on return they survive power loss.

        Raises:
            StateError: they may not survive; then what was saved before does.
        """
        content = encode(jobs, store=self.store)

        def save(files: Files) -> None:
            try:
                files.unlink(self.name + TEMPORARY)  # left if an agent was killed while it wrote
                write_durably(files, "", self.name, content)
            except OSError as error:
                reason = error.strerror or error
                raise StateError(f"jobs {self.label}: {reason}") from error

        await self.disk.run(save)


def encode(jobs: Sequence[Job], *, store: str) -> bytes:
    """Encode `jobs` as the content of a job file."""
    saved = _Content(format=FORMAT, klineagent=__version__, store=store, jobs=[*jobs])
    return msgspec.json.format(msgspec.json.encode(saved)) + b"\n"


def decode(content: bytes, *, store: str) -> list[Job]:
    """Decode the content of a job file.

    Raises:
        StateUnreadable: a newer klineagent wrote it.
        ValueError: it is no job file, or belongs to another store.
    """
    try:
        head = msgspec.json.decode(content, type=Head)
        if newer := head.newer_than(FORMAT):
            raise StateUnreadable(newer)
        saved = msgspec.json.decode(content, type=_Content)
    except UNREADABLE as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if saved.store != store:
        raise ValueError(f"its jobs are for {saved.store}, not {store}")
    return saved.jobs
