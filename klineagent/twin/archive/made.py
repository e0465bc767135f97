"""The archive of markets: which files exist when, told before any of them is made. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b

from attrs import define, field, frozen

from klineagent.twin.archive import zipped
from klineagent.twin.archive.bucket import Stored
from klineagent.twin.archive.key import (
    CHECKSUM,
    FOLDERS,
    Cadence,
    TwinFile,
    day_of,
    folder_of,
    interval_of,
    parse_folder,
    parse_path,
)
from klineagent.twin.interval import HOUR_MS, MINUTE_MS, SECOND_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.market import Listing

# Files of the same time are published one by one.
_SPREAD_MS = 11 * MINUTE_MS


@frozen(kw_only=True)
class Publication:
    """When the archive publishes: so long after the end of a day or month, and a little later."""

    daily_ms: int = 8 * HOUR_MS + 30 * MINUTE_MS
    monthly_ms: int = 8 * HOUR_MS

    def time_of(self, key: TwinFile) -> int:
        """When the file is published."""
        after_ms = self.daily_ms if key.cadence is Cadence.DAILY else self.monthly_ms
        # A week's candle may close in the next month.
        ended_ms = key.interval.next_open(key.interval.open_at(key.end_ms - 1))
        later_ms = number_of(key.path) % _SPREAD_MS
        return (ended_ms + after_ms + later_ms) // SECOND_MS * SECOND_MS


@define(kw_only=True, eq=False)
class TradedVenue:
    """A venue's market, which its files are made of."""

    aggregator: Aggregator
    listings: Mapping[str, Listing] = field(init=False)
    """All there are and were, by symbol."""

    @listings.default
    def _by_symbol(self) -> Mapping[str, Listing]:
        return {each.symbol: each for each in self.aggregator.market.listings}

    def life_ms(self, listing: Listing) -> tuple[int, int]:
        """The time span in which a listing has candles; the end is not included."""
        market = self.aggregator.market
        if isinstance(market, EventfulMarket):
            return market.life_ms(listing)
        return listing.onboard_ms, listing.delivery_ms

    def opens(self, key: TwinFile) -> Iterator[int]:
        """Yield the open times of a file that lacks none, ascending."""
        since_ms, until_ms = self.life_ms(self.listings[key.symbol])
        # The first candle opens before the first trade.
        open_ms = key.interval.open_at(max(key.start_ms, since_ms))
        if open_ms < key.start_ms:
            open_ms = key.interval.next_open(open_ms)
        until_ms = min(key.end_ms, until_ms)
        while open_ms < until_ms:
            yield open_ms
            open_ms = key.interval.next_open(open_ms)

    def candles(self, key: TwinFile) -> Iterator[Candle]:
        """Yield the true candles of a file."""
        whole = self.aggregator.whole
        for open_ms in self.opens(key):
            candle = whole(key.symbol, key.interval, open_ms)
            if candle is not None:
                yield candle


@frozen(kw_only=True)
class MadeTree:
    """The `ObjectTree` of what is published at `now_ms`."""

    venues: Mapping[str, TradedVenue]
    publication: Publication
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
                    if any(self._files(venue_name, cadence, symbol, interval)):
                        yield folder_of(venue_name, cadence, symbol, interval)
            case [symbol, name]:
                interval_or_none = interval_of(name)
                if interval_or_none in cadence.intervals(venue_name):
                    for key in self._files(venue_name, cadence, symbol, interval_or_none):
                        yield from self._stored(key)

    def find(self, path: str) -> tuple[TwinFile, Stored] | None:
        """Find an object and the file that it belongs to; None if it is not there now."""
        key = parse_path(path.removesuffix(CHECKSUM))
        if key is None or not self._is_there(key):
            return None
        return next(((key, each) for each in self._stored(key) if each.key == path), None)

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
            if any(self._files(venue_name, cadence, symbol, TwinInterval.M1)):
                yield symbol

    def _files(
        self, venue_name: str, cadence: Cadence, symbol: str, interval: TwinInterval
    ) -> Iterator[TwinFile]:
        """Yield the files of a series that are published, ascending."""
        venue = self.venues.get(venue_name)
        if venue is None or symbol not in venue.listings:
            return
        since_ms, until_ms = venue.life_ms(venue.listings[symbol])
        day = cadence.first_day(day_of(interval.open_at(since_ms)))
        while True:
            key = TwinFile(venue_name, cadence, symbol, interval, day)
            if key.start_ms >= min(until_ms, self.now_ms):
                return
            if self._is_there(key):
                yield key
            day = cadence.after(day)

    def _is_there(self, key: TwinFile) -> bool:
        venue = self.venues.get(key.venue_name)
        if venue is None or key.symbol not in venue.listings:
            return False
        return (
            self.publication.time_of(key) <= self.now_ms
            and next(venue.opens(key), None) is not None
        )

    def _stored(self, key: TwinFile) -> Iterator[Stored]:
        modified_ms = self.publication.time_of(key)
        rows = sum(1 for _ in self.venues[key.venue_name].opens(key))
        yield Stored(key.path, zipped.size_of(key, rows), etag_of(key.path), modified_ms)
        checksum = key.path + CHECKSUM
        yield Stored(checksum, zipped.checksum_size(key), etag_of(checksum), modified_ms)


def number_of(text: str) -> int:
    """A number that looks random, the same for the same text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def etag_of(text: str) -> str:
    """An ETag: clients may compare it, not compute it."""
    return blake2b(text.encode(), digest_size=16).hexdigest()
