"""Renders an agent's jobs as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.text import Text

from klineagent.api.models.jobs import JobNow
from klineagent.cli.remote.wording import counted, duration, short
from klineagent.cli.tables import plain_table

_SHOWN = 3
_DAY = len("2026-02-01")


def jobs_view(jobs: Iterable[JobNow]) -> RenderableType:
    """Render a line for each job."""
    table = plain_table("", ["job", "state", "what", "progress"], [])
    for each in jobs:
        table.add_row(each.id, state_text(each), what(each), progress_text(each))
    return table if table.row_count else Text("no jobs; see `klineagent import --agent URL`")


def state_text(job: JobNow) -> str:
    """Write the state of a job as people say it."""
    return job.state.replace("_", " ")


def what(job: JobNow) -> str:
    """Write what a job imports."""
    more = len(job.symbols) - _SHOWN
    names = " ".join(job.symbols[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    since = "" if job.from_ is None else f" from {job.from_[:_DAY]}"
    to = "" if job.to is None else f" to {job.to[:_DAY]}"
    return f"{names} {','.join(job.intervals)}{since}{to}"


def progress_text(job: JobNow) -> str:
    """Write how far a job is, and why it does not go on if it does not."""
    now = job.progress
    parts = [job.reason] if job.reason else []
    if now.series and job.state == "listing":
        parts.append(f"{now.series_listed} of {now.series} series listed")
    elif now.files_total or now.candles or now.exchange_candles:
        parts.append(f"{now.files} of {counted(now.files_total, 'file')}")
        parts.append(f"{short(now.candles + now.exchange_candles)} candles")
    if now.eta_seconds is not None and job.state in {"running", "waiting"}:
        parts.append(f"{duration(now.eta_seconds)} left")
    if now.refused:
        parts.append(f"{counted(now.refused, 'file')} refused")
    if now.missing:
        parts.append(f"{short(now.missing)} candles missing")
    return ", ".join(parts)


def summary_lines(job: JobNow) -> Iterator[str]:
    """Write what an ended job has done, and which candles are missing."""
    now = job.progress
    yield (
        f"{now.candles} candles of {now.files} files and {now.exchange_candles} of the exchange"
        f" stored, {now.series} series"
    )
    for file in now.refused_files:
        yield f"refused  {file.path}: {file.reason}"
    for hole in now.missing_candles:
        yield f"missing  {hole.series} {hole.from_} to {hole.to}, {hole.candles}: {hole.reason}"
