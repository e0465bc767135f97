"""What `klineagent import` prints: a bar with an ETA on a terminal, lines without one, or JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
import msgspec
from attrs import asdict, define, field
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from klineagent.cli.tables import clock_text
from klineagent.core.interval import Interval
from klineagent.history.events import (
    Event,
    FileTaken,
    Filled,
    Hole,
    ImportSummary,
    Planned,
    SeriesListed,
    UnitStored,
    Waiting,
)
from klineagent.storage.history import FileState

_LINE_EVERY_S = 5.0
MOST_LISTED = 50
"""Refused files and holes that are printed; the rest is counted."""


class ImportDisplay(Protocol):
    """Shows the progress of an import."""

    def report(self, event: Event) -> None:
        """Show an event."""

    def waits(self, reason: str) -> None:
        """Show that the archive is waited for, or no more."""

    def end(self, summary: ImportSummary) -> None:
        """Show what the import has done."""


@contextmanager
def open_progress(*, as_json: bool) -> Iterator[ImportDisplay]:
    """Show the progress of an import until the block ends."""
    console = Console(stderr=True)
    if as_json:
        yield _JsonLines()
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as progress:
            yield _Bar(progress)
    else:
        yield _PlainLines()


@define
class _JsonLines:
    """A line of JSON for each event."""

    def report(self, event: Event) -> None:
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(event).__name__)[1:]
        _print({"event": name, **_plain(event)})

    def waits(self, reason: str) -> None:
        self.report(Waiting(reason))

    def end(self, summary: ImportSummary) -> None:
        _print({"event": "done", "is_whole": summary.is_whole, **_plain(summary)})


def _plain(value: object) -> dict[str, object]:
    """Convert an event to what JSON has; digests are for the database, not for readers."""

    def write(_: object, attribute: object, each: object) -> object:
        return str(each) if isinstance(each, Interval) else each

    plain: dict[str, object] = asdict(value, value_serializer=write)  # type: ignore[arg-type]
    for record in [plain.get("record"), *_records(plain.get("refused"))]:
        if isinstance(record, dict):
            record.pop("day_rows")
            record.pop("day_digests")
    return plain


def _records(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _print(value: dict[str, object]) -> None:
    click.echo(msgspec.json.encode(value).decode())


@define
class _PlainLines:
    """Plain lines on standard error, one every few seconds; the summary on standard output."""

    _planned: Planned | None = None
    _files: int = 0
    _printed_at: float = 0.0
    _began_at: float = field(factory=time.monotonic)
    _candles: int = 0

    def report(self, event: Event) -> None:
        match event:
            case Planned():
                self._planned, self._began_at = event, time.monotonic()
                click.echo(planned_text(event), err=True)
            case FileTaken(record) if record.state is FileState.REFUSED:
                click.echo(f"refused {record.path}: {record.reason}", err=True)
            case UnitStored() if self._planned is not None:
                self._files += event.files
                self._candles += event.candles
                self._line(event, self._planned)
            case Waiting(reason) if reason:
                click.echo(f"waiting: {reason}", err=True)
            case _:
                pass

    def waits(self, reason: str) -> None:
        self.report(Waiting(reason))

    def _line(self, event: UnitStored, planned: Planned) -> None:
        now = time.monotonic()
        if now - self._printed_at < _LINE_EVERY_S:
            return
        self._printed_at = now
        took_s = now - self._began_at
        left = max(0, planned.bytes - event.bytes)
        eta_s = took_s * left / event.bytes if event.bytes else 0.0
        click.echo(
            f"{self._files} of {planned.files} files, {_size(event.bytes)} of"
            f" {_size(planned.bytes)}, {self._candles} candles, {self._candles / took_s:.0f} a"
            f" second, {_duration(eta_s)} left",
            err=True,
        )

    def end(self, summary: ImportSummary) -> None:
        _print_summary(summary)


@define
class _Bar:
    """A progress bar."""

    _progress: Progress
    _task: TaskID | None = None

    def report(self, event: Event) -> None:
        match event:
            case SeriesListed(done, series):
                self._show(f"listing {done} of {series} series", None)
            case Planned():
                self._progress.console.print(planned_text(event), highlight=False)
                self._show("importing", 0, event.bytes)
            case UnitStored():
                self._show("importing", event.bytes, speed=f"{event.rows_per_second:.0f} rows/s")
            case FileTaken(record) if record.state is FileState.REFUSED:
                self._progress.console.print(
                    f"refused {record.path}: {record.reason}", highlight=False, markup=False
                )
            case Filled(series, candles):
                self._show(f"asking the exchange: {series}, {candles} candles", None)
            case Waiting(reason) if reason:
                self._show(f"waiting: {reason}", None)
            case _:
                pass

    def waits(self, reason: str) -> None:
        self.report(Waiting(reason))

    def _show(
        self, text: str, completed: int | None, total: int | None = None, speed: str = ""
    ) -> None:
        if self._task is None:
            self._task = self._progress.add_task(text, total=total, speed=speed)
            return
        self._progress.update(
            self._task, description=text, completed=completed, total=total, speed=speed
        )

    def end(self, summary: ImportSummary) -> None:
        self._progress.stop()
        _print_summary(summary)


def planned_text(planned: Planned) -> str:
    """Say in a line what there is to do."""
    text = (
        f"{planned.series} series: {planned.files} files to take ({_size(planned.bytes)}, up to"
        f" {planned.candles} candles), {planned.files_done} taken before"
    )
    if planned.rewritten:
        text += f", {planned.rewritten} of them rewritten since"
    if planned.rest_candles:
        text += (
            f"; {planned.rest_candles} candles to ask the exchange for (weight"
            f" {planned.rest_weight}, {planned.rest_minutes:.1f} minutes)"
        )
    return text


def _print_summary(summary: ImportSummary) -> None:
    click.echo(
        f"{summary.archive_candles} candles of {summary.files} files and {summary.rest_candles} of"
        f" the exchange stored in {_duration(summary.seconds)}, {summary.series} series"
    )
    if summary.rewritten:
        click.echo(f"{summary.rewritten} files were rewritten since they were imported")
    for record in summary.refused[:MOST_LISTED]:
        click.echo(f"refused  {record.path}: {record.reason}")
    _more(len(summary.refused), "refused files")
    for hole in sorted(summary.holes, key=lambda each: each.is_proven)[:MOST_LISTED]:
        click.echo(hole_text(hole))
    _more(len(summary.holes), "ranges")


def hole_text(hole: Hole) -> str:
    """Say in a line what is not stored, and why."""
    word = "absent " if hole.is_proven else "missing"
    return (
        f"{word}  {hole.series} {clock_text(hole.first_ms)} to {clock_text(hole.end_ms)},"
        f" {hole.candles} candle{'s' * (hole.candles > 1)}: {hole.reason}"
    )


def _more(count: int, what: str) -> None:
    if count > MOST_LISTED:
        click.echo(f"... and {count - MOST_LISTED} more {what}")


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:  # noqa: PLR2004 - as many as the next unit
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
