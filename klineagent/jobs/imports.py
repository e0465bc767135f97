"""Imports as jobs of an agent: into its own store, from its own weight, at its own pace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
import trio
from attrs import define

from klineagent.core.errors import (
    ConfigError,
    ExchangeUnreachable,
    RowsRefused,
    StoreError,
    first_of,
)
from klineagent.core.interval import Interval
from klineagent.core.retry import Backoff
from klineagent.exchange.network import Network
from klineagent.exchange.turns import LAST
from klineagent.exchange.venues import VENUES
from klineagent.history.archive.place import open_archive
from klineagent.history.events import Event, FileTaken, ImportSummary
from klineagent.history.exchanges import VenueExchange, known_of
from klineagent.history.importing import Importer
from klineagent.history.survey import ImportRequest
from klineagent.jobs.imported_days import ImportedDays
from klineagent.jobs.job import ImportProgress, Job, JobState
from klineagent.jobs.pace import JobPace
from klineagent.jobs.progress import ImportCounts, JobUpdater
from klineagent.series.venues import Venues
from klineagent.storage.reader import END_MS
from klineagent.storage.writing.writer import Writer

# A month of 1m: what is stored at a time holds up recording, and takes memory.
JOB_UNIT_ROWS = 45_000
LONGEST_RETRY_S = 60.0
LOG_EVERY_S = 60.0

log = structlog.get_logger()


@define(kw_only=True, eq=False)
class ImportJobs:
    """Carries out jobs that import."""

    venues: Venues
    writer: Writer
    network: Network
    archive: str
    """The URL or folder of the archive; empty if there is none to this exchange."""
    counts: ImportCounts
    days: ImportedDays

    async def carry_out(self, job: Job) -> JobState:
        """Import what `job` asks for, however long archive, store or exchange are away.

        Raises:
            KlineagentError: it cannot be done.
        """
        if not self.archive:
            raise ConfigError("the exchange is simulated: start the agent with --archive-url")
        updater = JobUpdater(job, self.counts)
        backoff = Backoff(first_s=1, most_s=LONGEST_RETRY_S)
        async with _logging_progress(job):
            while True:
                try:
                    summary = await self._import(job, updater)
                except* (ExchangeUnreachable, StoreError) as group:
                    error = first_of(group)
                    if isinstance(error, RowsRefused):
                        raise
                    updater.waits("job", str(error))
                else:
                    return JobState.DONE if summary.is_whole else JobState.DONE_WITH_HOLES
                await trio.sleep(backoff.after())
                updater.waits("job", "")

    async def _import(self, job: Job, updater: JobUpdater) -> ImportSummary:
        """Begin where the records of an earlier attempt end, and go on to the end."""
        order, time = job.order, self.venues.main.context.time
        job.progress = ImportProgress()
        updater.enter(JobState.LISTING)
        updater.waits("exchange", "the time of the exchange is not known yet")
        await time.known()
        exchanges = await self._exchanges(job, updater) if order.asks_exchange else {}
        updater.waits("exchange", "")
        pace = JobPace(writer=self.writer, waits=partial(updater.waits, "recording"))

        def report(event: Event) -> None:
            updater.report(event, time.now_ms())
            if isinstance(event, FileTaken):
                self.days.note(event.record)

        async with open_archive(
            self.archive, self.network, waits=partial(updater.waits, "archive")
        ) as archive:
            importer = Importer(
                archive=archive,
                exchanges=exchanges,
                store=self.writer.store,
                request=ImportRequest(
                    asked=order.asked,
                    intervals=[Interval(name) for name in order.intervals],
                    first_ms=order.first_ms,
                    end_ms=END_MS if order.end_ms is None else order.end_ms,
                ),
                report=report,
                now_ms=time.now_ms,
                turn=pace.turn,
                unit_rows=JOB_UNIT_ROWS,
            )
            await importer.plan()
            updater.enter(JobState.RUNNING)
            return await importer.run()

    async def _exchanges(self, job: Job, updater: JobUpdater) -> dict[str, VenueExchange]:
        """Return the agent's own clients of the venues that are asked for, by name."""
        found = {}
        for name in dict.fromkeys(each.venue for each in job.order.asked):
            updater.waits("exchange", f"the symbols of {name} are not known yet")
            context = (await self.venues.open(VENUES[name])).context
            await context.book.loaded()
            known = known_of(context.book.listings or {}, context.book.odd_names)
            found[name] = VenueExchange(context.rest, known, LAST)
        return found


@asynccontextmanager
async def _logging_progress(job: Job) -> AsyncIterator[None]:
    """Log a line a minute about `job` until the block ends."""

    async def log_progress() -> None:
        while True:
            await trio.sleep(LOG_EVERY_S)
            now = job.progress
            log.info(
                "job_progress",
                job=job.id,
                state=job.state.value,
                reason=job.reason,
                files=now.files,
                of_files=now.files_total,
                candles=now.candles + now.exchange_candles,
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(log_progress)
        yield
        nursery.cancel_scope.cancel(reason="the job is over")
