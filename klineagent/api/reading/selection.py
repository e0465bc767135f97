"""The series that a read of many is about: symbols and patterns, of what is recorded."""

from __future__ import annotations

from klineagent.api.requests import interval_named
from klineagent.core.errors import NotReadable
from klineagent.core.interval import Interval
from klineagent.exchange.venues import symbol_named
from klineagent.reading.ranges import RangeReader, RecordedSeries
from klineagent.reading.tail import SeriesName
from klineagent.series.desired.wire_format import check_brackets

_WILDCARDS = frozenset("*?[")


def series_named(symbols: str, intervals: str, reader: RangeReader) -> list[RecordedSeries]:
    """Return the series of `symbols` or patterns at `intervals`, both with commas, each once.

    Without intervals they are those at all. A symbol must be recorded at each that is named.

    Raises:
        InvalidRequest: a name cannot be read.
        NotReadable: a series is not recorded, or none matches.
    """
    found: dict[SeriesName, RecordedSeries] = {}
    for name in symbols.split(","):
        venue, symbol = symbol_named(name, reader.venues.default, beside="", field="symbol")
        check_brackets(symbol, "symbol")
        named = [interval_named(each, venue) for each in intervals.split(",") if intervals]
        if named and _WILDCARDS.isdisjoint(symbol):
            matching = [reader.one(venue, symbol, interval) for interval in named]
        elif not (matching := reader.matching(venue, symbol, named or [*Interval])):
            raise NotReadable(f"nothing is recorded that matches {name.strip()} {intervals}")
        found |= {each.name: each for each in matching}
    return [*found.values()]
