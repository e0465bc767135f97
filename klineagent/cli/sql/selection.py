"""Which of the stored series a user means by symbols, patterns and intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from attrs import frozen

from klineagent.config.converters import WILDCARDS
from klineagent.core.errors import ConfigError, StartError
from klineagent.core.interval import Interval
from klineagent.core.kline import SeriesName
from klineagent.exchange.venues import Venue, split_name
from klineagent.storage.reader import END_MS


@frozen
class Asked:
    """A symbol or a pattern, as the user wrote it and as it is compared."""

    text: str
    venue: str
    symbol: str

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for any number of symbols."""
        return bool(WILDCARDS & set(self.symbol))

    def matches(self, series: SeriesName) -> bool:
        """Return whether it means the symbol of `series`."""
        return self.venue == series[0] and fnmatchcase(series[1], self.symbol)


def read_asked(names: Iterable[str], default: Venue) -> list[Asked]:
    """Read symbols and patterns, `default` being the venue of those that name none.

    Raises:
        ConfigError: one names a venue that does not exist.
    """
    asked = []
    for name in names:
        try:
            venue, symbol = split_name(name, default)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        asked.append(Asked(name, venue.name, symbol))
    return asked


@frozen(kw_only=True)
class SeriesSelection:
    """Closed candles of some series that open in some range of time."""

    asked: Sequence[Asked]
    intervals: Sequence[Interval] = ()
    """All, if none are given."""
    first_ms: int = 0
    end_ms: int = END_MS

    def of(self, stored: Iterable[SeriesName]) -> list[SeriesName]:
        """Return those of the `stored` series that are asked for.

        Raises:
            StartError: a symbol is not stored, or not at one of the intervals; or a pattern matches
                none.
        """
        names = {each.value for each in self.intervals}
        there = [each for each in stored if not names or each[2] in names]
        for each in self.asked:
            found = {series[2] for series in there if each.matches(series)}
            if not found or (names - found and not each.is_pattern):
                at = f" at {', '.join(sorted(names - found))}" if names else ""
                raise StartError(f"no closed candle of {each.text}{at} is stored in that time")
        return [series for series in there if any(each.matches(series) for each in self.asked)]
