"""All jobs of an agent: one runs at a time, the others wait, and all of them survive restarts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import structlog
import trio
from attrs import define, field

from klineagent.core.errors import (
    JobOver,
    KlineagentError,
    NoSuchJob,
    StateError,
    StateUnreadable,
    TooManyJobs,
    first_of,
)
from klineagent.core.retry import Trouble
from klineagent.jobs.job import WAITS, ImportProgress, Job, JobOrder, JobState
from klineagent.jobs.job_file import JobFile
from klineagent.jobs.progress import ImportCounts

MOST_WAITING = 16
MOST_KEPT = 50
"""Ended jobs that are remembered, the newest."""
# How long a command waits for the disk before it reports that its job is not saved.
SAVED_WITHIN_S = 1.0
SAVE_AGAIN_AFTER_S = 5.0
LAST_SAVE_WITHIN_S = 0.5

log = structlog.get_logger()


@define(kw_only=True, eq=False)
class Jobs:
    """Keeps jobs by their ids, and has them carried out one after the other.

    Commands are decided at once; `run` carries out.
    """

    file: JobFile | None
    """None if jobs end with the process."""
    carry_out: Callable[[Job], Awaitable[JobState]]
    """Does what a job asks for, and returns the state that it ends with; its errors end the job."""
    now_ms: Callable[[], int]
    counts: ImportCounts
    _jobs: dict[str, Job] = field(factory=dict, init=False)
    """In the order in which they have their turns."""
    _changed: trio.Event = field(factory=trio.Event, init=False)
    """Set when a job changes, and replaced."""
    _changes: int = field(default=0, init=False)
    _saved: int = field(default=0, init=False)
    """How many of the changes are in the file."""
    _tried: trio.Event = field(factory=trio.Event, init=False)
    """Set after each attempt to write the file, and replaced."""
    _scope: trio.CancelScope | None = field(default=None, init=False)
    """Of the job that has its turn."""

    async def load(self) -> None:
        """Load the jobs of the last run; what was under way waits for its turn again.

        A file that cannot be read now is left alone: then jobs end with the process.

        Raises:
            StateUnreadable: a newer klineagent wrote the file.
        """
        if self.file is None:
            return
        try:
            loaded = await self.file.load()
        except StateUnreadable:
            raise
        except StateError as error:
            kept = self.file.name
            log.error("jobs_unreadable", error=str(error), kept=kept)  # noqa: TRY400
            self.file = None
            return
        for job in loaded:
            if job.is_at_work:
                job.state, job.reason = JobState.QUEUED, ""
            self._jobs[job.id] = job

    def all(self) -> list[Job]:
        """Return all jobs: open ones in the order of their turns, then ended ones, newest first."""
        ended = [each for each in self._jobs.values() if each.is_over]
        ended.sort(key=lambda each: each.ended_ms or 0, reverse=True)
        return [each for each in self._jobs.values() if not each.is_over] + ended

    def get(self, job_id: str) -> Job:
        """Return the job with that id.

        Raises:
            NoSuchJob: there is none.
        """
        if (job := self._jobs.get(job_id)) is None:
            raise NoSuchJob(f"there is no job {job_id[:40]}")
        return job

    def put(self, order: JobOrder) -> Job:
        """Queue a job; one that is not over yet is the same job, one that is begins anew.

        Raises:
            TooManyJobs: as many wait as may.
        """
        job = self._jobs.get(order.id)
        if job is not None and not job.is_over:
            return job
        waiting = (each for each in self._jobs.values() if each.state in WAITS)
        if sum(1 for _ in waiting) >= MOST_WAITING:
            raise TooManyJobs(f"{MOST_WAITING} jobs are waiting: cancel one, or try again later")
        job = Job(order=order, created_ms=self.now_ms())
        self._jobs.pop(job.id, None)  # it goes to the end
        self._jobs[job.id] = job
        log.info("job_queued", job=job.id, symbols=len(order.symbols), intervals=order.intervals)
        self._note()
        return job

    def pause(self, job_id: str) -> Job:
        """Let a job rest until it is resumed; one that has its turn ends what it had begun.

        Raises:
            NoSuchJob: there is none.
            JobOver: it has ended.
        """
        return self._stop(job_id, JobState.PAUSED)

    def resume(self, job_id: str) -> Job:
        """Queue a paused job; errors as of `pause`."""
        job = self._unended(job_id)
        if job.state is JobState.PAUSED:
            job.state = JobState.QUEUED
            self._note()
        return job

    def cancel(self, job_id: str) -> Job:
        """End a job; what is stored stays. Errors as of `pause`."""
        return self._stop(job_id, JobState.CANCELLED)

    def _stop(self, job_id: str, state: JobState) -> Job:
        job = self._unended(job_id)
        if job.state is state:
            return job
        if job.is_at_work and self._scope is not None:
            self._scope.cancel(reason=f"the job is {state}")
        self._end(job, state, "")
        return job

    def _unended(self, job_id: str) -> Job:
        job = self.get(job_id)
        if job.is_over:
            raise JobOver(f"job {job_id} has ended: {job.state}")
        return job

    def _end(self, job: Job, state: JobState, reason: str) -> None:
        job.state, job.reason = state, reason
        if job.is_over:
            job.ended_ms = self.now_ms()
            over = [each for each in self.all() if each.is_over]
            for old in over[MOST_KEPT:]:
                del self._jobs[old.id]
        log.info("job_stopped", job=job.id, state=state.value, reason=reason)
        self._note()

    def _note(self) -> None:
        self._changes += 1
        self._changed.set()
        self._changed = trio.Event()

    @property
    def is_saved(self) -> bool:
        """Whether all jobs would survive a crash now."""
        return self.file is not None and self._saved == self._changes

    async def saved(self) -> bool:
        """Wait up to `SAVED_WITHIN_S` until all jobs are saved; return whether they are."""
        given = self._changes
        # Shielded: the job is queued in any case, and the answer must say if it is saved.
        with trio.move_on_after(SAVED_WITHIN_S, shield=True):
            while self.file is not None and self._saved < given:
                await self._tried.wait()
        return self.file is not None and self._saved >= given

    async def run(self) -> NoReturn:
        """Carry out jobs, and save them as they change."""
        async with trio.open_nursery() as nursery:
            if self.file is not None:
                nursery.start_soon(self._keep_saved, self.file)
            while True:
                queued = (each for each in self._jobs.values() if each.state is JobState.QUEUED)
                if (job := next(queued, None)) is None:
                    await self._changed.wait()
                    continue
                await self._run(job)
                # A job that ends at once, and is queued again at once, must not hold up others.
                await trio.lowlevel.checkpoint()

    async def _run(self, job: Job) -> None:
        job.state, job.reason, job.progress = JobState.LISTING, "", ImportProgress()
        log.info("job_started", job=job.id)
        outcome, reason = JobState.FAILED, ""
        with trio.CancelScope() as self._scope:
            try:
                outcome = await self.carry_out(job)
            except* KlineagentError as group:
                reason = str(first_of(group))
            # A mistake in a job must not end recording, and again after each restart.
            except* Exception as group:
                log.exception("job_broke", job=job.id)
                reason = f"an internal error, see the log: {first_of(group)!r}"
        self._scope = None
        if job.is_at_work:  # it was neither paused nor cancelled
            self._end(job, outcome, reason)

    async def _keep_saved(self, file: JobFile) -> NoReturn:
        trouble = Trouble("jobs_not_saved", "jobs_saved")
        try:
            while True:
                while self._saved == self._changes:
                    await self._changed.wait()
                changes, wait_s = self._changes, 0.0
                try:
                    await file.save([*self._jobs.values()])
                except StateError as error:
                    trouble.lasts(error, alarm=True)
                    wait_s = SAVE_AGAIN_AFTER_S
                else:
                    trouble.over()
                    self._saved = changes
                self._tried.set()
                self._tried = trio.Event()
                await trio.sleep(wait_s)
        finally:
            # A job at work has done more since the last save; its figures outlast a restart.
            if self._saved != self._changes or any(job.is_at_work for job in self._jobs.values()):
                with trio.move_on_after(LAST_SAVE_WITHIN_S, shield=True), suppress(StateError):
                    await file.save([*self._jobs.values()])
