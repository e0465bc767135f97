"""What an import reports while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import field, frozen

from klineagent.history.archive.files import ArchivedSeries
from klineagent.storage.history import FileState, ImportRecord


@frozen
class SeriesListed:
    """The archive was asked what it has of so many of all series."""

    done: int
    series: int


@frozen(kw_only=True)
class Planned:
    """What there is to do."""

    series: int
    files: int
    bytes: int
    candles: int
    """In these files, if none of them is short."""
    files_done: int
    """Files that earlier imports have taken."""
    rewritten: int
    """Those of them that the archive has changed since."""
    rest_candles: int
    """Candles to ask the exchange for, if the files are whole."""
    rest_weight: int
    rest_minutes: float


@frozen
class FileTaken:
    """A file was imported or refused."""

    record: ImportRecord
    stored: int
    """Its candles that were new to the store."""


@frozen(kw_only=True)
class UnitStored:
    """A unit is stored and recorded."""

    files: int
    bytes: int
    """Of the archive's files, for all units up to this one."""
    candles: int
    rows_per_second: float


@frozen
class Waiting:
    """Nothing goes on at the moment, for this reason; empty when it does again."""

    reason: str


@frozen
class Filled:
    """Candles of a series came from the exchange."""

    series: ArchivedSeries
    candles: int


@frozen(kw_only=True)
class Hole:
    """Candles that are not stored after all."""

    series: ArchivedSeries
    first_ms: int
    end_ms: int
    candles: int
    reason: str
    is_proven: bool
    """Whether it is known that they do not exist."""


@frozen(kw_only=True)
class ImportSummary:
    """What an import has done."""

    series: int = 0
    files: int = 0
    bytes: int = 0
    archive_candles: int = 0
    """Candles that were new to the store, from files."""
    rest_candles: int = 0
    """From the exchange."""
    states: dict[FileState, int] = field(factory=dict)
    refused: Sequence[ImportRecord] = ()
    rewritten: int = 0
    holes: Sequence[Hole] = ()
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether every candle is stored, or known not to exist."""
        return all(each.is_proven for each in self.holes)


Event = SeriesListed | Planned | FileTaken | UnitStored | Waiting | Filled | Hole
Report = Callable[[Event], None]
