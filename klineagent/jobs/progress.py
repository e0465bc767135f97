"""Updates a job from the events of its import. Pure."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from klineagent.history.events import (
    Event,
    FileTaken,
    Filled,
    Hole,
    Planned,
    SeriesListed,
    UnitStored,
    Waiting,
)
from klineagent.jobs.job import MOST_NAMED, Job, JobState, MissingRange, RefusedFile
from klineagent.storage.history import FileState


@define(eq=False)
class ImportCounts:
    """Counts what imports have stored since the start."""

    rows: int = 0
    files: Counter[str] = field(factory=Counter)
    """By what became of them."""


@define
class JobUpdater:
    """Updates the state and progress of a job; several parts may wait at a time."""

    job: Job
    counts: ImportCounts
    _waits: dict[str, str] = field(factory=dict, init=False)
    """Why each part waits, by its name."""
    _state: JobState = field(default=JobState.LISTING, init=False)
    """What the job does while nothing waits."""

    def enter(self, state: JobState) -> None:
        """Begin the next part of the work."""
        self._state = state
        self._show()

    def waits(self, part: str, reason: str) -> None:
        """Note why `part` waits; an empty reason says that it goes on."""
        if reason:
            self._waits[part] = reason
        else:
            self._waits.pop(part, None)
        self._show()

    def _show(self) -> None:
        # A job that was paused or cancelled may still end what it had begun.
        if not self.job.is_at_work:
            return
        self.job.reason = next(reversed(self._waits.values()), "")
        self.job.state = JobState.WAITING if self._waits else self._state

    def report(self, event: Event, now_ms: int) -> None:
        """Add what an import reports."""
        progress = self.job.progress
        match event:
            case SeriesListed(done, series):
                progress.series_listed, progress.series = done, series
            case Planned():
                progress.began_ms = now_ms
                progress.series = event.series
                progress.files_total, progress.bytes_total = event.files, event.bytes
                progress.candles_total = event.candles
                progress.exchange_candles_total = event.rest_candles
                progress.exchange_minutes = event.rest_minutes
                progress.rewritten = event.rewritten
            case FileTaken():
                self._take(event)
            case UnitStored():
                progress.bytes = event.bytes
                progress.bytes_total = max(progress.bytes_total, event.bytes)
                progress.rows_per_second = event.rows_per_second
            case Filled():
                self.counts.rows += event.candles
                progress.exchange_candles += event.candles
                most = max(progress.exchange_candles_total, progress.exchange_candles)
                progress.exchange_candles_total = most
            case Hole():
                self._miss(event)
            case Waiting(reason):
                self.waits("store", reason)

    def _take(self, taken: FileTaken) -> None:
        progress, record = self.job.progress, taken.record
        self.counts.rows += taken.stored
        self.counts.files[record.state.value] += 1
        progress.files += 1
        # Files of days that are missing in a monthly file were not in the plan.
        progress.files_total = max(progress.files_total, progress.files)
        progress.candles += taken.stored
        progress.candles_total = max(progress.candles_total, progress.candles)
        match record.state:
            case FileState.IMPORTED:
                progress.imported += 1
            case FileState.SHORT:
                progress.short += 1
            case _:
                progress.refused += 1
                if len(progress.refused_files) < MOST_NAMED:
                    progress.refused_files.append(RefusedFile(record.path, record.reason))

    def _miss(self, hole: Hole) -> None:
        progress = self.job.progress
        if hole.is_proven:
            progress.absent += hole.candles
            return
        progress.missing += hole.candles
        if len(progress.missing_ranges) < MOST_NAMED:
            progress.missing_ranges.append(
                MissingRange(
                    str(hole.series), hole.first_ms, hole.end_ms, hole.candles, hole.reason
                )
            )
