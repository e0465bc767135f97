"""A job: what was asked for, how far it is, and what became of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from klineagent.core.interval import Interval
from klineagent.exchange.venues import VENUES
from klineagent.history.survey import AskedSymbol

MOST_NAMED = 50
"""Refused files and missing ranges that a job names; the others are counted."""

# The job file is checked by these types as it is read.
_FullName = Annotated[str, Meta(pattern=f"^({'|'.join(VENUES)}):.+$")]
_IntervalName = Annotated[str, Meta(pattern=f"^({'|'.join(each.value for each in Interval)})$")]
_YEAR_9999_MS = 253_370_764_800_000
_Ms = Annotated[int, Meta(ge=0, le=_YEAR_9999_MS)]


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    """It waits for its turn."""
    LISTING = "listing"
    """It asks the archive what there is."""
    RUNNING = "running"
    WAITING = "waiting"
    """It goes on by itself once its reason is gone."""
    PAUSED = "paused"
    """Until a client resumes it."""
    DONE = "done"
    DONE_WITH_HOLES = "done_with_holes"
    """All that there is was taken, and candles are missing."""
    FAILED = "failed"
    CANCELLED = "cancelled"


AT_WORK = frozenset({JobState.LISTING, JobState.RUNNING, JobState.WAITING})
WAITS = frozenset({JobState.QUEUED, JobState.PAUSED})
OVER = frozenset({JobState.DONE, JobState.DONE_WITH_HOLES, JobState.FAILED, JobState.CANCELLED})


class JobOrder(Struct, frozen=True, kw_only=True):
    """What is to be done; equal orders are one job."""

    kind: Literal["import"]
    symbols: Annotated[tuple[_FullName, ...], Meta(min_length=1)]
    """Symbols and patterns, each with its venue, sorted."""
    intervals: Annotated[tuple[_IntervalName, ...], Meta(min_length=1)]
    first_ms: _Ms | None = None
    """None for all that there is."""
    end_ms: _Ms | None = None
    """None for the moment at which the job begins."""
    asks_exchange: bool = True

    @classmethod
    def of_import(
        cls,
        asked: Iterable[AskedSymbol],
        intervals: Iterable[Interval],
        *,
        first_ms: int | None,
        end_ms: int | None,
        asks_exchange: bool,
    ) -> JobOrder:
        """Make the order of an import; the order of names does not matter, nor do repeats."""
        chosen = {*intervals}
        return cls(
            kind="import",
            symbols=tuple(sorted({f"{each.venue}:{each.symbol}" for each in asked})),
            intervals=tuple(each.value for each in Interval if each in chosen),
            first_ms=first_ms,
            end_ms=end_ms,
            asks_exchange=asks_exchange,
        )

    @property
    def id(self) -> str:
        """The hash of its content."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]

    @property
    def asked(self) -> list[AskedSymbol]:
        """Its symbols and patterns."""
        return [AskedSymbol(*name.split(":", 1)) for name in self.symbols]


class RefusedFile(Struct, frozen=True):
    """A file that was not taken, and why."""

    path: str
    reason: str


class MissingRange(Struct, frozen=True):
    """Candles of a series that were not found, by open times in milliseconds."""

    series: str
    first_ms: _Ms
    end_ms: _Ms
    candles: int
    reason: str


class ImportProgress(Struct, kw_only=True):
    """How far a job is, since it last began: what was done before is not done again."""

    began_ms: int = 0
    """When it began to take files."""
    series: int = 0
    series_listed: int = 0
    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    candles: int = 0
    """Candles from files that were new."""
    candles_total: int = 0
    """At most, as far as it is known."""
    exchange_candles: int = 0
    exchange_candles_total: int = 0
    exchange_minutes: float = 0.0
    """How long the exchange's limits let its part take."""
    rows_per_second: float = 0.0
    imported: int = 0
    """Files by what became of them."""
    short: int = 0
    refused: int = 0
    rewritten: int = 0
    """Files that the archive changed after their import."""
    refused_files: list[RefusedFile] = msgspec.field(default_factory=list)
    absent: int = 0
    """Candles that are known not to exist."""
    missing: int = 0
    missing_ranges: list[MissingRange] = msgspec.field(default_factory=list)

    def eta_s(self, now_ms: int) -> float | None:
        """Estimate how many seconds are left; None before anything is done."""
        took_s = max(0, now_ms - self.began_ms) / 1000
        left = max(0, self.bytes_total - self.bytes)
        if not self.began_ms or (left and not self.bytes):
            return None
        files_s = took_s * left / self.bytes if left else 0.0
        total = self.exchange_candles_total
        asking = max(0, total - self.exchange_candles) / total if total else 0.0
        return files_s + 60 * self.exchange_minutes * asking


class Job(Struct, kw_only=True):
    """An order and what became of it, as the job file has it."""

    order: JobOrder
    state: JobState = JobState.QUEUED
    reason: str = ""
    """Why it waits or has failed; empty if there is nothing to say."""
    created_ms: _Ms
    ended_ms: _Ms | None = None
    progress: ImportProgress = msgspec.field(default_factory=ImportProgress)

    @property
    def id(self) -> str:
        """See `JobOrder.id`."""
        return self.order.id

    @property
    def is_over(self) -> bool:
        """Whether it has ended; the same order again starts it anew."""
        return self.state in OVER

    @property
    def is_at_work(self) -> bool:
        """Whether it has its turn."""
        return self.state in AT_WORK
