"""A survey of the archive: what it has of the series that are asked for, by its own listing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from attrs import define, evolve, frozen

from klineagent.core.cooperate import in_workers
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
    month_of,
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
    """What is to be imported."""

    asked: Sequence[AskedSymbol]
    intervals: Sequence[Interval]
    first_ms: int | None
    """None for all that there is."""
    end_ms: int

    def until(self, now_ms: int) -> ImportRequest:
        """Return the same with whole days, as files have them, up to now at the most."""
        whole_days_ms = -(-self.end_ms // DAY_MS) * DAY_MS
        return evolve(self, end_ms=min(whole_days_ms, now_ms))


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
        """List the files of each series; `listed` gets how many are done."""
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

        await in_workers(look, series, workers=AT_ONCE)
        self._demand_something(ladders.values())
        return [ladders[each] for each in series if self._is_known(ladders[each])]

    def _demand_something(self, ladders: Collection[Ladder]) -> None:
        """Refuse a symbol that is asked for by its name if it is unknown.

        Raises:
            StartError: neither the archive nor the exchange has it.
        """
        known = {
            (each.series.venue, each.series.symbol) for each in ladders if self._is_known(each)
        }
        for asked in self.request.asked:
            if not asked.is_pattern and (asked.venue, asked.symbol) not in known:
                intervals = ", ".join(map(str, self.request.intervals))
                has = "the archive has" if not self.exchanges else "archive and exchange have"
                raise StartError(f"{has} no {asked.venue}:{asked.symbol} at {intervals}")

    def _is_known(self, ladder: Ladder) -> bool:
        """Whether archive or exchange has candles of the series, in its range or not."""
        exchange = self.exchanges.get(ladder.series.venue)
        is_there = exchange is not None and exchange.knows(ladder.series.symbol)
        return is_there or bool(ladder.records) or ladder.files_end_ms is not None

    async def _begin_with_the_archive(self, ladder: Ladder) -> None:
        """Let the range of `ladder` begin with the first file that there is, or with its listing.

        Days may begin in the month before the first one that has a file of its own; the exchange
        has candles from before the archive began.
        """
        month_ms = min(ladder.months, default=None)
        recorded_ms = min((each.first_day for each in ladder.records.values()), default=None)
        if recorded_ms is None or month_ms is None or recorded_ms > month_ms:
            from_ms = 0 if month_ms is None else month_of(month_ms - 1)
            await self._list(ladder, FilePeriod.DAILY, from_ms, until_ms=month_ms)
        begins = [*ladder.months, *ladder.days, *(e.first_day for e in ladder.records.values())]
        exchange = self.exchanges.get(ladder.series.venue)
        if exchange is not None and exchange.is_listed(ladder.series.symbol):
            listed_ms = exchange.listings[ladder.series.symbol].onboard_ms
            # Some listings are without it.
            begins += [day_of(listed_ms)] if listed_ms else []
        ladder.clip(min(begins, default=ladder.end_ms), ladder.end_ms)

    def _end_with_its_life(self, ladder: Ladder) -> None:
        """Let the range of a symbol that was delisted end with its last file."""
        series = ladder.series
        exchange = self.exchanges.get(series.venue)
        if exchange is not None and not exchange.is_listed(series.symbol):
            end_ms = max(
                ladder.files_end_ms or 0,
                *(each.first_day + len(each.day_rows) * DAY_MS for each in ladder.records.values()),
                ladder.first_ms,
            )
            ladder.clip(ladder.first_ms, end_ms)

    async def _list(
        self,
        ladder: Ladder,
        period: FilePeriod,
        from_ms: int = 0,
        *,
        until_ms: int | None = None,
    ) -> None:
        """List files of one kind that begin at `from_ms` or later; few of them after `until_ms`."""
        if period not in periods_of(ladder.series.interval):
            return
        folder = series_folder(ladder.series, period)
        # The key before: a listing begins after its marker.
        after = ""
        if period is FilePeriod.DAILY and from_ms:
            after = day_path(ladder.series, from_ms - DAY_MS) + CHECKSUM
        files = []
        until = "" if until_ms is None else day_path(ladder.series, until_ms)
        if period is FilePeriod.DAILY and not until:
            ladder.days_listed_from = from_ms
        for entry in await self.archive.entries(folder, after=after, until=until):
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
        """Look for files of days that are missing in monthly files."""

        async def look(ladder: Ladder) -> None:
            needed = ladder.days_needed()
            listed_ms = ladder.days_listed_from
            if needed and (listed_ms is None or listed_ms > needed[0]):
                await self._list(ladder, FilePeriod.DAILY, needed[0])

        await in_workers(look, ladders, workers=AT_ONCE)
