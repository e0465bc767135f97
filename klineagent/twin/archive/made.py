"""The archive of markets: which files exist when, known before any of them is made. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b

from attrs import frozen

from klineagent.twin.archive import zipped
from klineagent.twin.archive.bucket import Stored
from klineagent.twin.archive.faults.fault import PublishedFile
from klineagent.twin.archive.faults.faults import ArchiveFaults
from klineagent.twin.archive.key import (
    CHECKSUM,
    FOLDERS,
    Cadence,
    TwinFile,
    day_of,
    folder_of,
    interval_of,
    number_of,
    parse_folder,
    parse_path,
)
from klineagent.twin.archive.traded import TradedVenue
from klineagent.twin.interval import HOUR_MS, MINUTE_MS, SECOND_MS, TwinInterval

# Files of the same time are published one by one.
_SPREAD_MS = 11 * MINUTE_MS


@frozen(kw_only=True)
class Publication:
    """When the archive publishes: so long after the end of a day or month, and a little later."""

    daily_ms: int = 8 * HOUR_MS + 30 * MINUTE_MS
    monthly_ms: int = 8 * HOUR_MS

    def time_of(self, file: TwinFile) -> int:
        """When the file is published."""
        after_ms = self.daily_ms if file.cadence is Cadence.DAILY else self.monthly_ms
        # A week's candle may close in the next month.
        ended_ms = file.interval.next_open(file.interval.open_at(file.end_ms - 1))
        later_ms = number_of(file.path) % _SPREAD_MS
        return (ended_ms + after_ms + later_ms) // SECOND_MS * SECOND_MS


@frozen(kw_only=True)
class MadeTree:
    """The `ObjectTree` of what is published at `now_ms`."""

    venues: Mapping[str, TradedVenue]
    publication: Publication
    faults: ArchiveFaults
    now_ms: int

    def folder(self, prefix: str) -> Iterator[Stored | str]:
        """See `ObjectTree`."""
        place = parse_folder(prefix)
        if place is None:
            yield from self._above(prefix)
            return
        venue_name, cadence, rest = place
        match rest:
            case []:
                for symbol in self._symbols(venue_name, cadence):
                    yield f"{prefix}{symbol}/"
            case [symbol]:
                for interval in cadence.intervals(venue_name):
                    if any(self._states(venue_name, cadence, symbol, interval)):
                        yield folder_of(venue_name, cadence, symbol, interval)
            case [symbol, name]:
                interval_or_none = interval_of(name)
                if interval_or_none in cadence.intervals(venue_name):
                    for state in self._states(venue_name, cadence, symbol, interval_or_none):
                        yield from self.objects(state)

    def state(self, path: str) -> PublishedFile | None:
        """The file that an object belongs to; None if it is not published."""
        file = parse_path(path.removesuffix(CHECKSUM))
        return None if file is None else self._state(file)

    def objects(self, state: PublishedFile) -> Iterator[Stored]:
        """Yield the objects of a file: its zip, and its checksum if it has one."""
        path = state.file.path
        yield Stored(path, self.size(state), _etag_of(state.version), state.modified_ms)
        if all(fault.has_checksum for fault in state.faults):
            size = zipped.checksum_size(state.file)
            etag = _etag_of(f"{state.version}/{state.summed_ms}")
            yield Stored(path + CHECKSUM, size, etag, state.summed_ms)

    def size(self, state: PublishedFile) -> int:
        """The size of a file's zip; some faults add rows."""
        rows = self.venues[state.file.venue_name].most_rows(state.file)
        distorted = sum(fault.distort is not None for fault in state.faults)
        return zipped.size_of(state.file, rows + rows * distorted // 4)

    def _above(self, prefix: str) -> Iterator[str]:
        """Yield the folders above those of symbols; only those of venues that are played exist."""
        homes = (
            f"data/{folder}/{cadence.value}/klines/"
            for venue_name, folder in FOLDERS.items()
            for cadence in Cadence
            if any(self._symbols(venue_name, cadence))
        )
        yield from {
            f"{prefix}{home.removeprefix(prefix).split('/')[0]}/"
            for home in homes
            if home.startswith(prefix)
        }

    def _symbols(self, venue_name: str, cadence: Cadence) -> Iterator[str]:
        """Yield the symbols that have files."""
        venue = self.venues.get(venue_name)
        for symbol in venue.listings if venue else ():
            if any(self._states(venue_name, cadence, symbol, TwinInterval.M1)):
                yield symbol

    def _states(
        self, venue_name: str, cadence: Cadence, symbol: str, interval: TwinInterval
    ) -> Iterator[PublishedFile]:
        """Yield the files of a series that are published, ascending."""
        venue = self.venues.get(venue_name)
        lives = venue.lives(symbol) if venue else []
        if not lives:
            return
        until_ms = min(lives[-1].until_ms, self.now_ms)
        day = cadence.first_day(day_of(interval.open_at(lives[0].since_ms)))
        while True:
            file = TwinFile(venue_name, cadence, symbol, interval, day)
            if file.start_ms >= until_ms:
                return
            if (state := self._state(file)) is not None:
                yield state
            day = cadence.after(day)

    def _state(self, file: TwinFile) -> PublishedFile | None:
        venue, published_ms = self.venues.get(file.venue_name), self.publication.time_of(file)
        if venue is None or published_ms > self.now_ms or not venue.has(file):
            return None
        return self.faults.state(file, published_ms, self.now_ms)


def _etag_of(version: str) -> str:
    """An ETag: clients may compare it, not compute it."""
    return blake2b(version.encode(), digest_size=16).hexdigest()
