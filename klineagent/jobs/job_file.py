"""The job file beside the state file: jobs survive restarts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import structlog
from attrs import frozen

from klineagent import __version__
from klineagent.core.errors import UNREADABLE, StateUnreadable
from klineagent.jobs.job import Job
from klineagent.series.desired.beside import FileBeside
from klineagent.series.desired.state_file import Head
from klineagent.storage.spool.disk import Files

FORMAT = 1

log = structlog.get_logger()


class _Content(Head, frozen=True, kw_only=True):
    """The whole file."""

    store: str
    jobs: list[msgspec.Raw]


@frozen(kw_only=True)
class JobFile(FileBeside):
    """The job file of an agent."""

    SUFFIX = ".jobs"
    KIND = "jobs"

    async def load(self) -> list[Job]:
        """Load what was saved last; a damaged file is logged, and moved aside.

        Raises:
            StateUnreadable: a newer klineagent wrote the file, which stays as it is.
            StateError: it cannot be read now, or is damaged and cannot be moved aside: saving would
                lose what it holds.
        """

        def read(files: Files) -> list[Job]:
            try:
                try:
                    return decode(files.read(self.name), store=self.store)
                except FileNotFoundError:
                    return []
                except ValueError as error:
                    kept = self.set_aside(files)
                    log.error("jobs_unreadable", error=str(error), kept=kept)  # noqa: TRY400
                    return []
            except OSError as error:
                raise self.error(error) from error

        try:
            return await self.disk.run(read)
        except StateUnreadable as error:
            raise StateUnreadable(f"{self.label}: {error}") from error

    async def save(self, jobs: Sequence[Job]) -> None:
        """Save `jobs`; on return they survive power loss.

        Raises:
            StateError: they may not survive; then what was saved before does.
        """
        await self.write(encode(jobs, store=self.store))


def encode(jobs: Sequence[Job], *, store: str) -> bytes:
    """Encode `jobs` as the content of a job file."""
    written = [msgspec.Raw(msgspec.json.encode(each)) for each in jobs]
    saved = _Content(format=FORMAT, klineagent=__version__, store=store, jobs=written)
    return msgspec.json.format(msgspec.json.encode(saved)) + b"\n"


def decode(content: bytes, *, store: str) -> list[Job]:
    """Decode the content of a job file, without the jobs that are not valid.

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
    return [*_valid(saved.jobs)]


def _valid(jobs: Sequence[msgspec.Raw]) -> Iterator[Job]:
    for number, each in enumerate(jobs):
        try:
            yield msgspec.json.decode(each, type=Job)
        except UNREADABLE as error:
            log.warning("job_left_out", number=number, error=str(error))
