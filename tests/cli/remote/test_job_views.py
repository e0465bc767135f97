"""Jobs on a terminal."""

from __future__ import annotations

from msgspec.structs import replace
from rich.console import Console

from klineagent.api.models.jobs import JobNow
from klineagent.api.routes.jobs import job_reported
from klineagent.cli.remote.job_views import jobs_view, progress_text, summary_lines, what
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM
from klineagent.history.survey import AskedSymbol
from klineagent.jobs.job import ImportProgress, Job, JobOrder, JobState, MissingRange, RefusedFile

BEGIN_MS = 1_767_225_600_000
"""2026-01-01."""


def a_job(state: JobState = JobState.RUNNING, reason: str = "", **changes: int) -> JobNow:
    """A job ten seconds after it has begun."""
    order = JobOrder.of_import(
        [AskedSymbol("usdm", "BTCUSDT"), AskedSymbol("spot", "ETHBTC")],
        [Interval.H1, Interval.M1],
        first_ms=BEGIN_MS,
        end_ms=None,
        asks_exchange=True,
    )
    done = ImportProgress(began_ms=BEGIN_MS, files=1, files_total=4, bytes=100, bytes_total=400)
    for name, value in changes.items():
        setattr(done, name, value)
    job = Job(order=order, state=state, reason=reason, created_ms=BEGIN_MS, progress=done)
    return job_reported(job, BEGIN_MS + 10_000, USDM)


def test_a_job_is_a_line() -> None:
    """What it imports, how far it is, and how long it takes."""
    job = a_job(candles=1_500)
    assert what(job) == "spot:ETHBTC BTCUSDT 1m,1h from 2026-01-01"
    assert progress_text(job) == "1 of 4 files, 1.5k candles, 30s left"
    console = Console(width=120, record=True, file=None)
    with console.capture() as shown:
        console.print(jobs_view([job]))
    assert f"{job.id}  running  spot:ETHBTC" in shown.get()


def test_a_job_that_does_not_go_on_has_no_time_left() -> None:
    """Nor has one of which nothing is done yet."""
    assert a_job(JobState.PAUSED).progress.eta_seconds is None
    assert a_job(bytes=0).progress.eta_seconds is None
    assert a_job(JobState.LISTING, began_ms=0).progress.eta_seconds is None


def test_why_a_job_waits_comes_first() -> None:
    """Before how far it is."""
    job = a_job(JobState.WAITING, "the archive is busy", refused=1, missing=2)
    assert progress_text(job) == (
        "the archive is busy, 1 of 4 files, 0 candles, 30s left, 1 file refused, 2 candles missing"
    )


def test_the_same_request_is_the_same_job() -> None:
    """Whatever the order of its names, and however often they stand there."""
    asked = [AskedSymbol("spot", "ETHBTC"), AskedSymbol("usdm", "BTCUSDT")] * 2
    again = JobOrder.of_import(
        asked,
        [Interval.M1, Interval.H1, Interval.M1],
        first_ms=BEGIN_MS,
        end_ms=None,
        asks_exchange=True,
    )
    assert again.id == a_job().id
    assert replace(again, first_ms=None).id != again.id


def test_an_ended_job_names_what_it_lacks() -> None:
    """Files that were refused, and ranges that are missing."""
    done = ImportProgress(files=2, series=1, candles=7)
    done.refused_files.append(RefusedFile("data/a.zip", "it is no zip file"))
    done.missing_ranges.append(MissingRange("usdm:A 1m", 0, 60_000, 1, "gone"))
    order = JobOrder(kind="import", symbols=("usdm:A",), intervals=("1m",))
    job = Job(order=order, state=JobState.DONE_WITH_HOLES, created_ms=0, ended_ms=1, progress=done)
    assert [*summary_lines(job_reported(job, 1, USDM))] == [
        "7 candles of 2 files and 0 of the exchange stored, 1 series",
        "refused  data/a.zip: it is no zip file",
        "missing  usdm:A 1m 1970-01-01T00:00:00+00:00 to 1970-01-01T00:01:00+00:00, 1: gone",
    ]
