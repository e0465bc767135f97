"""The names of streams: which series they mean, and in which of two forms. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from klineagent.core.interval import BY_LENGTH, Interval
from klineagent.core.kline import SeriesName
from klineagent.exchange.venues import Venue

_NAME = re.compile(r"(?P<symbol>[^@/\s]+)@kline_(?P<interval>\w+)")
_CONTINUOUS = re.compile(r"(?P<pair>[^@/\s]+)_perpetual@continuousKline_(?P<interval>\w+)")


@frozen
class StreamName:
    """A name that can have events: `btcusdt@kline_1m`, `btcusdt_perpetual@continuousKline_1m`."""

    text: str
    symbol: str
    """The symbol, or the pair of a continuous contract; in upper case."""
    interval: Interval
    is_continuous: bool = False

    def series_on(self, venue: Venue) -> SeriesName | None:
        """Return the series on `venue`; None if there can be none."""
        symbol = self.symbol
        if self.is_continuous:
            if venue.perpetual_suffix is None:
                return None
            symbol += venue.perpetual_suffix
        if self.interval not in venue.intervals:
            return None
        return venue.name, symbol, self.interval.value

    def series(self, venues: Iterable[Venue]) -> tuple[SeriesName, ...]:
        """Return the series that it may mean, in the order of `venues`."""
        return tuple(series for venue in venues if (series := self.series_on(venue)))


def read_name(text: str) -> StreamName | None:
    """Read a stream's name; None for one that has no events here, or nowhere.

    The exchange knows no name with a symbol in upper case.
    """
    is_continuous = (found := _NAME.fullmatch(text)) is None
    if found is None:
        found = _CONTINUOUS.fullmatch(text)
    if found is None or found["interval"] not in BY_LENGTH:
        return None
    symbol = found[1]
    if symbol != symbol.lower():
        return None
    return StreamName(text, symbol.upper(), Interval(found["interval"]), is_continuous)
