"""`/v1/jobs`: imports that a running agent does beside recording."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import UNSET, Struct
from quart_trio import QuartTrio

from klineagent.api.models.jobs import (
    CandlesNotFound,
    JobAccepted,
    JobBody,
    JobList,
    JobNow,
    JobProgress,
    RefusedImport,
)
from klineagent.api.models.timestamps import read_moment, utc
from klineagent.api.openapi import operation
from klineagent.api.requests import interval_named, read_body
from klineagent.core.errors import InvalidRequest, JobOver, NoSuchJob, TooManyJobs
from klineagent.exchange.venues import VENUES, Venue, full_name, symbol_named
from klineagent.history.survey import AskedSymbol
from klineagent.jobs.job import ImportProgress, Job, JobOrder
from klineagent.jobs.jobs import Jobs

PATH = "/v1/jobs"
_NAME = re.compile(r"[\w*?\[\]!-]{1,50}")


def add_job_routes(app: QuartTrio, jobs: Jobs, *, default: Venue) -> None:
    """Add the routes of jobs."""

    def report(job: Job) -> JobNow:
        return job_reported(job, jobs.now_ms(), default)

    @app.post(PATH)
    @operation({202: JobAccepted}, tag="jobs", body=JobBody, raises=[InvalidRequest, TooManyJobs])
    async def post_job() -> tuple[Struct, int]:
        """Queue a job; one runs at a time, and recording goes first.

        The same request again is the same job. One that has ended begins anew, and takes what is
        new by then.
        """
        job = jobs.put(read_order(await read_body(JobBody), default))
        saved = await jobs.saved()
        return JobAccepted(report(job), saved), 202

    @app.get(PATH)
    @operation(JobList, tag="jobs")
    async def get_jobs() -> JobList:
        """List the jobs: in the order of their turns, then the last 50 that ended."""
        return JobList(jobs_reported(jobs, default))

    @app.get(f"{PATH}/<job_id>")
    @operation(JobNow, tag="jobs", raises=[NoSuchJob])
    async def get_job(job_id: str) -> JobNow:
        """Return one job."""
        return report(jobs.get(job_id))

    @app.post(f"{PATH}/<job_id>/pause")
    @operation(JobNow, tag="jobs", raises=[NoSuchJob, JobOver])
    async def pause_job(job_id: str) -> JobNow:
        """Let a job rest until it is resumed, also over restarts.

        It ends the insert that it has begun.
        """
        return report(jobs.pause(job_id))

    @app.post(f"{PATH}/<job_id>/resume")
    @operation(JobNow, tag="jobs", raises=[NoSuchJob, JobOver])
    async def resume_job(job_id: str) -> JobNow:
        """Let a paused job wait for its turn again; it goes on where it was."""
        return report(jobs.resume(job_id))

    @app.delete(f"{PATH}/<job_id>")
    @operation(JobNow, tag="jobs", raises=[NoSuchJob, JobOver])
    async def cancel_job(job_id: str) -> JobNow:
        """Cancel a job; what is stored stays."""
        return report(jobs.cancel(job_id))


def read_order(asked: JobBody, default: Venue) -> JobOrder:
    """Read what a request asks for.

    Raises:
        InvalidRequest: a field of it is wrong; the text names it.
    """
    symbols = [*_symbols_of(asked, default)]
    if not asked.intervals:
        raise InvalidRequest("intervals: the list is empty")
    venues = [VENUES[name] for name in dict.fromkeys(each.venue for each in symbols)]
    first_ms = read_moment(asked.from_, field="from") if asked.from_ else None
    end_ms = read_moment(asked.to, field="to") if asked.to else None
    if first_ms is not None and end_ms is not None and first_ms >= end_ms:
        raise InvalidRequest("from: it must be before to")
    return JobOrder.of_import(
        symbols,
        [interval_named(name, *venues) for name in asked.intervals],
        first_ms=first_ms,
        end_ms=end_ms,
        asks_exchange=asked.rest,
    )


def _symbols_of(asked: JobBody, default: Venue) -> Iterator[AskedSymbol]:
    names = [(f"symbols[{at}]", name) for at, name in enumerate(asked.symbols or ())]
    if asked.match is not UNSET:
        if asked.symbols is not UNSET:
            raise InvalidRequest("match: there are symbols, too; give one of both")
        names = [("match.name", asked.match.name)]
    if not names:
        raise InvalidRequest("symbols: name one, or give match")
    for field, name in names:
        venue, symbol = symbol_named(name, default, beside=asked.venue, field=field)
        if not _NAME.fullmatch(symbol):
            raise InvalidRequest(f"{field}: {symbol[:50]!r} cannot be a symbol or a pattern")
        yield AskedSymbol(venue.name, symbol)


def jobs_reported(jobs: Jobs, default: Venue) -> list[JobNow]:
    """Return all jobs as answers report them."""
    now_ms = jobs.now_ms()
    return [job_reported(each, now_ms, default) for each in jobs.all()]


def job_reported(job: Job, now_ms: int, default: Venue) -> JobNow:
    """Return a job as answers report it. Pure."""
    order = job.order
    return JobNow(
        id=job.id,
        kind=order.kind,
        symbols=[full_name(VENUES[each.venue], each.symbol, default) for each in order.asked],
        intervals=[*order.intervals],
        from_=None if order.first_ms is None else utc(order.first_ms),
        to=None if order.end_ms is None else utc(order.end_ms),
        rest=order.asks_exchange,
        state=job.state.value,
        reason=job.reason,
        created=utc(job.created_ms),
        ended=None if job.ended_ms is None else utc(job.ended_ms),
        progress=_progress(job.progress, job.progress.eta_s(now_ms) if job.is_at_work else None),
    )


def _progress(now: ImportProgress, eta_s: float | None) -> JobProgress:
    return JobProgress(
        series=now.series,
        series_listed=now.series_listed,
        files=now.files,
        files_total=now.files_total,
        bytes=now.bytes,
        bytes_total=now.bytes_total,
        candles=now.candles,
        candles_total=now.candles_total,
        exchange_candles=now.exchange_candles,
        exchange_candles_total=now.exchange_candles_total,
        rows_per_second=now.rows_per_second,
        eta_seconds=eta_s,
        imported=now.imported,
        short=now.short,
        refused=now.refused,
        rewritten=now.rewritten,
        absent=now.absent,
        missing=now.missing,
        refused_files=[RefusedImport(each.path, each.reason) for each in now.refused_files],
        missing_candles=[
            CandlesNotFound(
                each.series, utc(each.first_ms), utc(each.end_ms), each.candles, each.reason
            )
            for each in now.missing_ranges
        ],
    )
