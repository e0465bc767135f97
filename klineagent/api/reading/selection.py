"""The series that a read of many is about: symbols and patterns, of what is recorded."""

from __future__ import annotations

from klineagent.api.requests import interval_named
from klineagent.config.converters import WILDCARDS
from klineagent.core.errors import InvalidRequest, NotReadable
from klineagent.core.interval import Interval
from klineagent.core.kline import SeriesName
from klineagent.exchange.venues import symbol_named
from klineagent.reading.ranges import RangeReader, RecordedSeries
from klineagent.series.desired.wire_format import check_brackets

# Each may be a pattern, which is held against all symbols: 10 ms where thousands are recorded.
MOST_NAMES = 50


def names_in(text: str, field: str) -> list[str]:
    """Return the names in `text`, with commas between them, each once.

    Raises:
        InvalidRequest: there are too many.
    """
    names = [*dict.fromkeys(map(str.strip, text.split(",")))]
    if len(names) > MOST_NAMES:
        hint = "use patterns, or several requests"
        raise InvalidRequest(f"{field}: {len(names)} names, of at most {MOST_NAMES}; {hint}")
    return names


async def series_named(symbols: str, intervals: str, reader: RangeReader) -> list[RecordedSeries]:
    """Return the series of `symbols` or patterns at `intervals`, both with commas, each once.

    Without intervals they are those at all. A symbol must be recorded at each that is named.

    Raises:
        InvalidRequest: a name cannot be read, or there are too many.
        NotReadable: a series is not recorded, or none matches.
    """
    found: dict[SeriesName, RecordedSeries] = {}
    wanted = names_in(intervals, "interval") if intervals else []
    for name in names_in(symbols, "symbol"):
        venue, symbol = symbol_named(name, reader.venues.default, beside="", field="symbol")
        check_brackets(symbol, "symbol")
        named = [interval_named(each, venue) for each in wanted]
        if named and WILDCARDS.isdisjoint(symbol):
            matching = [reader.one(venue, symbol, interval) for interval in named]
        elif not (matching := await reader.matching(venue, symbol, named or [*Interval])):
            raise NotReadable(f"nothing is recorded that matches {name} {intervals}")
        found |= {each.name: each for each in matching}
    return [*found.values()]
