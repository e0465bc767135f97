"""An import: the archive's listing, its files from the newest month on, then the exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import trio
from attrs import define, field

from klineagent.core.errors import StoreUnavailable
from klineagent.core.interval import Interval
from klineagent.core.retry import Backoff
from klineagent.history.archive import Archive
from klineagent.history.downloads import Download, download
from klineagent.history.events import (
    FileTaken,
    Hole,
    ImportSummary,
    Planned,
    Report,
    SeriesListed,
    UnitStored,
    Waiting,
)
from klineagent.history.files import (
    ArchivedSeries,
    ArchiveFile,
)
from klineagent.history.judging import FileRead, judged
from klineagent.history.loading import load
from klineagent.history.plan import (
    FileUnit,
    Ladder,
    rows_of,
    subtract,
    units_of,
)
from klineagent.history.survey import ImportRequest, Survey, at_once
from klineagent.history.zips import Member
from klineagent.storage.history import FileState, ImportRecord, Loaded, PackedFile, Unit
from klineagent.storage.store import Store

# Downloaded while one is stored: 10 files of 1m are some 20 MB.
UNITS_AHEAD = 1
_LONGEST_RETRY_S = 30.0


@define(kw_only=True, eq=False)
class Importer:
    """Imports what is wanted into a store; what was interrupted is gone on with by a second run.

    Each unit of files is stored and then recorded, so at any moment the records say what is there.
    """

    archive: Archive
    store: Store
    request: ImportRequest
    report: Report
    now_ms: Callable[[], int]
    _ladders: list[Ladder] = field(factory=list, init=False)
    _bytes: int = field(default=0, init=False)
    _taken: list[Loaded] = field(factory=list, init=False)

    async def plan(self) -> Planned:
        """Ask the archive what it has, and the store what it took; report what is to do.

        Raises:
            StartError: nothing is wanted that the archive has.
            ExchangeUnreachable: the archive does not answer.
            StoreError: the store does not answer.
        """
        survey = Survey(archive=self.archive, request=self.request)
        series = await survey.series()
        records: dict[ArchivedSeries, list[ImportRecord]] = {each: [] for each in series}
        for venue in dict.fromkeys(each.venue for each in series):
            symbols = {each.symbol for each in series if each.venue == venue}
            names = [each.value for each in self.request.intervals]
            for record in await self.store.history.records(venue, symbols, names):
                of = ArchivedSeries(venue, record.symbol, Interval(record.interval))
                records.setdefault(of, []).append(record)
        self._ladders = await survey.ladders(
            series, records, lambda done: self.report(SeriesListed(done, len(series)))
        )
        planned = self._planned()
        self.report(planned)
        return planned

    async def run(self) -> ImportSummary:
        """Import what `plan` has found.

        Raises:
            ExchangeUnreachable: the archive does not answer any more.
            StoreError: the store refuses, or an operator must act.
        """
        began_at = trio.current_time()
        await self._take(each for ladder in self._ladders for each in _first_files(ladder))
        await Survey(archive=self.archive, request=self.request).list_days(self._ladders)
        await self._take(each for ladder in self._ladders for each in ladder.day_files())
        holes: list[Hole] = []
        for ladder in self._ladders:
            for hole in await self._holes(ladder):
                self.report(hole)
                holes.append(hole)
        records = [each.record for each in self._taken]
        states = dict.fromkeys(FileState, 0)
        for record in records:
            states[record.state] += 1
        return ImportSummary(
            series=len(self._ladders),
            files=len(records),
            bytes=self._bytes,
            archive_candles=sum(each.stored for each in self._taken),
            states={state: count for state, count in states.items() if count},
            refused=[each for each in records if each.state is FileState.REFUSED],
            rewritten=sum(map(_rewritten, self._ladders)),
            holes=holes,
            seconds=trio.current_time() - began_at,
        )

    def _planned(self) -> Planned:
        files = [each for ladder in self._ladders for each in _first_files(ladder)]
        return Planned(
            series=len(self._ladders),
            files=len(files),
            bytes=sum(each.bytes for each in files),
            candles=sum(map(rows_of, files)),
            files_done=sum(len(ladder.records) for ladder in self._ladders),
            rewritten=sum(map(_rewritten, self._ladders)),
            rest_candles=0,
            rest_weight=0,
            rest_minutes=0.0,
        )

    async def _take(self, files: Iterable[ArchiveFile]) -> None:
        """Import files, unit by unit; the next is downloaded while one is stored."""
        units = units_of(files)
        if not units:
            return
        send, receive = trio.open_memory_channel[tuple[FileUnit, list[Download]]](UNITS_AHEAD)

        async def download() -> None:
            with send:
                for unit in units:
                    await send.send((unit, await self._downloaded(unit)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(download)
            with receive:
                async for unit, downloads in receive:
                    await self._store(unit, downloads)

    async def _downloaded(self, unit: FileUnit) -> list[Download]:
        downloads: dict[str, Download] = {}

        async def one(file: ArchiveFile) -> None:
            downloads[file.path] = await download(self.archive, file, self.now_ms)

        await at_once(one, unit.files)
        return [downloads[each.path] for each in unit.files]

    async def _store(self, unit: FileUnit, downloads: Sequence[Download]) -> None:
        began_at = trio.current_time()
        whole = [(each.read, each.member) for each in downloads if each.member is not None]
        loaded = await self._load(unit, whole) if whole else []
        if lost := [each.record for each in downloads if each.record is not None]:
            await self.store.history.record(lost)
            loaded += [Loaded(record, 0) for record in lost]
        by_path = {each.record.path: each for each in loaded}
        for ladder in self._ladders:
            folder = (ladder.series.venue, ladder.series.symbol, ladder.series.interval.value)
            ladder.note(
                each.record
                for each in loaded
                if (each.record.venue, each.record.symbol, each.record.interval) == folder
            )
        self._taken += loaded
        self._bytes += unit.bytes
        for file in unit.files:
            taken = by_path[file.path]
            self.report(FileTaken(taken.record, taken.stored))
        took_s = trio.current_time() - began_at
        rows = sum(each.record.rows for each in loaded)
        self.report(
            UnitStored(
                files=len(unit.files),
                bytes=self._bytes,
                candles=rows,
                rows_per_second=rows / took_s if took_s else 0.0,
            )
        )

    async def _load(self, unit: FileUnit, whole: Sequence[tuple[FileRead, Member]]) -> list[Loaded]:
        """Load a unit, again and again while the store is away."""
        packed = Unit(
            unit.venue,
            unit.interval.value,
            [
                PackedFile(
                    read.file.series.symbol,
                    read.file.first_ms,
                    read.file.end_ms,
                    member.gz,
                    member.has_header,
                )
                for read, member in whole
            ],
        )
        backoff = Backoff(first_s=1, most_s=_LONGEST_RETRY_S)
        while True:
            try:
                loaded = await load(
                    self.store,
                    packed,
                    lambda number, facts: judged(whole[number][0], facts, now_ms=self.now_ms()),
                )
            except StoreUnavailable as error:
                self.report(Waiting(str(error)))
                await trio.sleep(backoff.after())
            else:
                self.report(Waiting(""))
                return loaded

    async def _holes(self, ladder: Ladder) -> list[Hole]:
        """Return what the store lacks of a series."""
        series = ladder.series
        interval = series.interval
        holes = []
        for first_ms, end_ms in ladder.lacking():
            runs = await self.store.stored_runs(
                series.venue, series.symbol, interval.value, first_ms, end_ms
            )
            stored = [(first, interval.next_open(last)) for first, last in runs]
            for left in subtract([(first_ms, end_ms)], stored):
                begin_ms, over_ms = map(interval.first_open, left)
                if candles := interval.count(begin_ms, over_ms):
                    holes.append(
                        Hole(
                            series=series,
                            first_ms=begin_ms,
                            end_ms=over_ms,
                            candles=candles,
                            reason="no file has them, and the exchange was not asked",
                            is_proven=False,
                        )
                    )
        return holes


def _first_files(ladder: Ladder) -> list[ArchiveFile]:
    return [*ladder.month_files(), *ladder.day_files()]


def _rewritten(ladder: Ladder) -> int:
    return sum(map(ladder.is_rewritten, [*ladder.months.values(), *ladder.days.values()]))
