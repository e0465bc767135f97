"""An import: the archive's listing, its files from the newest month on, then the exchange."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import trio
from attrs import define, field

from klineagent.core.cooperate import in_workers
from klineagent.core.interval import Interval
from klineagent.history.archive.files import (
    ArchivedSeries,
    ArchiveFile,
)
from klineagent.history.archive.place import AT_ONCE, Archive
from klineagent.history.archive.zips import Member
from klineagent.history.downloads import Download, download
from klineagent.history.events import (
    FileTaken,
    ImportSummary,
    Planned,
    Report,
    SeriesListed,
    UnitStored,
)
from klineagent.history.exchanges import VenueExchange
from klineagent.history.filling import Filler, gaps_of
from klineagent.history.judging import FileRead, judged
from klineagent.history.loading import Turn, load
from klineagent.history.patience import once_there
from klineagent.history.plan import (
    UNIT_ROWS,
    FileUnit,
    Ladder,
    rows_of,
    units_of,
)
from klineagent.history.survey import ImportRequest, Survey
from klineagent.storage.history import FileFacts, FileState, ImportRecord, Loaded, PackedFile, Unit
from klineagent.storage.store import Store

# Downloaded while one is stored: 10 files of 1m are some 20 MB.
UNITS_AHEAD = 1


@define(kw_only=True, eq=False)
class Importer:
    """Imports what is wanted into a store; what was interrupted is gone on with by a second run.

    Each unit of files is stored and then recorded, so at any moment the records say what is there.
    """

    archive: Archive
    exchanges: Mapping[str, VenueExchange]
    """By venue; of those that are not there nothing is asked."""
    store: Store
    request: ImportRequest
    report: Report
    now_ms: Callable[[], int]
    turn: Turn = nullcontext
    unit_rows: int = UNIT_ROWS
    """The most candles of files that go in together."""
    _survey: Survey = field(init=False)
    _ladders: list[Ladder] = field(factory=list, init=False)
    _bytes: int = field(default=0, init=False)
    _taken: list[Loaded] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        request = self.request.until(self.now_ms())
        self._survey = Survey(archive=self.archive, request=request, exchanges=self.exchanges)

    async def plan(self) -> Planned:
        """Ask the archive what it has, and the store what it took; report what is to do.

        Raises:
            StartError: nothing is wanted that the archive has.
            ExchangeUnreachable: the archive does not answer.
            StoreError: the store does not answer.
        """
        series = await self._survey.series()
        records: dict[ArchivedSeries, list[ImportRecord]] = {each: [] for each in series}
        for venue in dict.fromkeys(each.venue for each in series):
            symbols = {each.symbol for each in series if each.venue == venue}
            names = [each.value for each in self.request.intervals]
            for record in await self.store.history.records(venue, symbols, names):
                of = ArchivedSeries(venue, record.symbol, Interval(record.interval))
                records.setdefault(of, []).append(record)
        self._ladders = await self._survey.ladders(
            series, records, lambda done: self.report(SeriesListed(done, len(series)))
        )
        left = [await self._left(ladder) for ladder in self._ladders]
        planned = self._planned(left)
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
        await self._survey.list_days(self._ladders)
        await self._take(each for ladder in self._ladders for each in ladder.day_files())
        filler = Filler(
            exchanges=self.exchanges,
            store=self.store,
            report=self.report,
            now_ms=self.now_ms,
            turn=self.turn,
        )
        await filler.fill(self._ladders)
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
            rest_candles=filler.stored,
            holes=filler.holes,
            seconds=trio.current_time() - began_at,
        )

    async def _left(self, ladder: Ladder) -> list[int]:
        """Count the candles of each gap that the files to take leave, if they are whole."""
        taken = [(each.first_ms, each.end_ms) for each in _first_files(ladder)]
        gaps = await gaps_of(self.store, ladder, but=taken)
        return [ladder.series.interval.count(*gap) for gap in gaps]

    def _planned(self, left: Sequence[Sequence[int]]) -> Planned:
        files = [each for ladder in self._ladders for each in _first_files(ladder)]
        weight, minutes = self._cost(left)
        return Planned(
            series=len(self._ladders),
            files=len(files),
            bytes=sum(each.bytes for each in files),
            candles=sum(map(rows_of, files)),
            files_done=sum(len(ladder.records) for ladder in self._ladders),
            rewritten=sum(map(_rewritten, self._ladders)),
            rest_candles=sum(map(sum, left)),
            rest_weight=weight,
            rest_minutes=minutes,
        )

    def _cost(self, left: Sequence[Sequence[int]]) -> tuple[int, float]:
        """Return the weight of what the exchange will be asked for, and how long that takes."""
        total, pools = 0, dict[str, float]()
        for ladder, counts in zip(self._ladders, left, strict=True):
            if (exchange := self.exchanges.get(ladder.series.venue)) is None:
                continue
            venue, pool = exchange.rest.venue, exchange.rest.budget.pool
            # Each page has a candle of the next one, as a proof.
            pages = sum(math.ceil(count / (venue.klines_page - 1)) for count in counts)
            weight = pages * venue.klines_weight(venue.klines_page)
            total += weight
            pools[pool.name] = pools.get(pool.name, 0.0) + weight / pool.limit
        return total, max(pools.values(), default=0.0)

    async def _take(self, files: Iterable[ArchiveFile]) -> None:
        """Import files, unit by unit; the next is downloaded while one is stored."""
        units = units_of(files, self.unit_rows)
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

        await in_workers(one, unit.files, workers=AT_ONCE)
        return [downloads[each.path] for each in unit.files]

    async def _store(self, unit: FileUnit, downloads: Sequence[Download]) -> None:
        began_at = trio.current_time()
        whole = [(each.read, each.member) for each in downloads if each.member is not None]
        loaded = await self._load(unit, whole) if whole else []
        if lost := [each.record for each in downloads if each.record is not None]:
            await once_there(partial(self.store.history.record, lost), self.report)
            loaded += [Loaded(record, 0) for record in lost]
        by_path = {each.record.path: each for each in loaded}
        ladders = {each.series: each for each in self._ladders}
        for file in unit.files:
            ladders[file.series].note([by_path[file.path].record])
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
        now_ms = self.now_ms()  # here: a store may judge in a thread of its own

        def judge(number: int, facts: FileFacts) -> ImportRecord:
            return judged(whole[number][0], facts, now_ms=now_ms)

        async def loaded() -> list[Loaded]:
            async with self.turn():
                return await load(self.store, packed, judge)

        return await once_there(loaded, self.report)


def _first_files(ladder: Ladder) -> list[ArchiveFile]:
    return [*ladder.month_files(), *ladder.day_files()]


def _rewritten(ladder: Ladder) -> int:
    return sum(map(ladder.is_rewritten, [*ladder.months.values(), *ladder.days.values()]))
