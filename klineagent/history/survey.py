"""A survey of the archive: what it has of the series that are asked for, by its own listing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import trio
from attrs import define, frozen

from klineagent.core.errors import StartError
from klineagent.core.interval import DAY_MS, Interval
from klineagent.exchange.venues import VENUES
from klineagent.history.archive.files import (
    CHECKSUM,
    ArchivedSeries,
    FilePeriod,
    day_of,
    day_path,
    file_named,
    series_folder,
    symbols_folder,
)
from klineagent.history.archive.place import AT_ONCE, Archive
from klineagent.history.exchanges import VenueExchange
from klineagent.history.plan import Ladder, found_by_start, periods_of
from klineagent.storage.history import ImportRecord


@frozen
class AskedSymbol:
    """A symbol of a venue, or a pattern of symbols."""

    venue: str
    symbol: str

    @property
    def is_pattern(self) -> bool:
        """Whether it may stand for any number of symbols."""
        return bool({"*", "?", "["} & {*self.symbol})


@frozen(kw_only=True)
class ImportRequest:
    """What somebody wants to import."""

    asked: Sequence[AskedSymbol]
    intervals: Sequence[Interval]
    first_ms: int | None
    """None for all that the archive has."""
    end_ms: int


@define(kw_only=True, eq=False)
class Survey:
    """Asks the archive for its listing, a request or two for each series."""

    archive: Archive
    request: ImportRequest
    exchanges: Mapping[str, VenueExchange]
    """Those that answer, by venue."""

    async def series(self) -> list[ArchivedSeries]:
        """Find the series that are asked for: of patterns, all symbols of the archive's listing."""
        found: dict[ArchivedSeries, None] = {}
        listed: dict[str, set[str]] = {}
        for asked in self.request.asked:
            symbols = [asked.symbol]
            if asked.is_pattern:
                if asked.venue not in listed:
                    listed[asked.venue] = {
                        symbol
                        for period in FilePeriod
                        for symbol in await self.archive.folders(
                            symbols_folder(asked.venue, period)
                        )
                    }
                every = sorted(listed[asked.venue])
                symbols = [each for each in every if fnmatchcase(each, asked.symbol)]
                if not symbols:
                    raise StartError(f"no symbol of {asked.venue} in the archive is {asked.symbol}")
            of_venue = VENUES[asked.venue].intervals
            for symbol in symbols:
                for interval in self.request.intervals:
                    if interval in of_venue:
                        found[ArchivedSeries(asked.venue, symbol, interval)] = None
        return [*found]

    async def ladders(
        self,
        series: Sequence[ArchivedSeries],
        records: Mapping[ArchivedSeries, Sequence[ImportRecord]],
        listed: Callable[[int], None],
    ) -> list[Ladder]:
        """List the files of each series; `listed` is told of how many that was done."""
        ladders: dict[ArchivedSeries, Ladder] = {}

        async def look(each: ArchivedSeries) -> None:
            ladder = Ladder(
                series=each,
                first_ms=0 if self.request.first_ms is None else day_of(self.request.first_ms),
                end_ms=each.interval.open_at(self.request.end_ms),
            )
            ladder.note(records[each])
            await self._list(ladder, FilePeriod.MONTHLY)
            if self.request.first_ms is None:
                await self._begin_with_the_archive(ladder)
            if needed := ladder.days_needed():
                await self._list(ladder, FilePeriod.DAILY, needed[0])
            self._end_with_its_life(ladder)
            ladders[each] = ladder
            listed(len(ladders))

        await at_once(look, series)
        return [ladders[each] for each in series]

    async def _begin_with_the_archive(self, ladder: Ladder) -> None:
        """Let the range of `ladder` begin with the first file that there is."""
        first = min(ladder.months, default=None)
        if first is None and ladder.has_days:
            await self._list(ladder, FilePeriod.DAILY)
            first = min(ladder.days, default=None)
        ladder.clip(ladder.end_ms if first is None else first, ladder.end_ms)

    def _end_with_its_life(self, ladder: Ladder) -> None:
        """Let the range of a symbol that was delisted end with its last file.

        Raises:
            StartError: neither the archive nor the exchange has such a series.
        """
        series = ladder.series
        exchange = self.exchanges.get(series.venue)
        if ladder.files_end_ms is None and not ladder.records:
            if exchange is None:
                raise StartError(f"the archive has no {series} in that time")
            if not exchange.knows(series.symbol):
                raise StartError(f"neither the archive nor the exchange has {series} in that time")
        if exchange is not None and not exchange.is_listed(series.symbol):
            end_ms = max(
                ladder.files_end_ms or 0,
                *(each.first_day + len(each.day_rows) * DAY_MS for each in ladder.records.values()),
                ladder.first_ms,
            )
            ladder.clip(ladder.first_ms, end_ms)

    async def _list(self, ladder: Ladder, period: FilePeriod, from_ms: int = 0) -> None:
        """List the files of one kind that begin at `from_ms` or later."""
        if period not in periods_of(ladder.series.interval):
            return
        folder = series_folder(ladder.series, period)
        # The key before: a listing begins after its marker.
        after = ""
        if period is FilePeriod.DAILY and from_ms:
            after = day_path(ladder.series, from_ms - DAY_MS) + CHECKSUM
        files = []
        for entry in await self.archive.entries(folder, after=after):
            file = file_named(
                ladder.series,
                entry.key,
                size=entry.size,
                etag=entry.etag,
                published=entry.modified,
            )
            if file is not None and file.period is period:
                files.append(file)
        kept = ladder.months if period is FilePeriod.MONTHLY else ladder.days
        kept.update(found_by_start(files))

    async def list_days(self, ladders: Iterable[Ladder]) -> None:
        """Look for files of days that months turned out to lack."""

        async def look(ladder: Ladder) -> None:
            needed = ladder.days_needed()
            if needed and not (ladder.days and min(ladder.days) <= needed[0]):
                await self._list(ladder, FilePeriod.DAILY, needed[0])

        await at_once(look, ladders)


async def at_once(
    function: Callable[[Any], Awaitable[None]], items: Iterable[Any], *, workers: int = AT_ONCE
) -> None:
    """Call `function` for each of `items`, a few at a time."""
    rest = iter(items)

    async def work() -> None:
        for item in rest:
            await function(item)

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)
