"""Coverage of series as the API reports it. Pure; its cost grows with the number of gaps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from attrs import frozen

from klineagent.api.models.reports import (
    AbsentCandles,
    AbsentSpan,
    MissingCandles,
    MissingSpan,
    SeriesCoverage,
)
from klineagent.api.models.timestamps import utc
from klineagent.core.errors import InvalidRequest
from klineagent.core.interval import SECOND_MS, Interval
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Absence, Gap, Urgency
from klineagent.series.spans import Span, Spans
from klineagent.series.statistics import SeriesStatistics
from klineagent.series.subscription import Subscription
from klineagent.series.venues import Venues

MOST_SPANS = 50
HOW = {
    Urgency.FRESH: "its stream was away, or its row was lost on the way to the database",
    Urgency.MISSED: "its closing event did not come in time",
    Urgency.RESTART: "the database did not have it when the series began",
    Urgency.HISTORY: "it is older than the series",
}

T = TypeVar("T")
NamedSeries = tuple[str, Subscription]
"""A series, and its symbol as answers write it."""
_NOTHING = SeriesStatistics(
    first_ms=0,
    end_ms=0,
    expected=0,
    missing=0,
    absent=0,
    healed=0,
    newest_closed_ms=None,
    lag_ms=0,
)


@frozen(order=True)
class PagePosition:
    """The position of a series in the order of all."""

    symbol: str
    """The symbol as answers write it."""
    rank: int

    @classmethod
    def read(cls, text: str) -> PagePosition:
        """Parse a cursor of `cursor_of`.

        Raises:
            InvalidRequest: `text` is no such cursor.
        """
        symbol, _, name = text.rpartition(":")
        try:
            return cls(symbol, _RANKS[Interval(name)])
        except ValueError as error:
            raise InvalidRequest(f"after: {text[:40]!r} is not the `next` of a page") from error


_RANKS = {interval: rank for rank, interval in enumerate(Interval)}


def cursor_of(series: NamedSeries) -> str:
    """Return the cursor of a page that ends with `series`."""
    name, subscription = series
    return f"{name}:{subscription.interval}"


def series_after(
    venues: Venues, position: PagePosition | None, *, symbols: list[str], interval: Interval | None
) -> Iterator[NamedSeries]:
    """Iterate over the subscriptions to `symbols`, which are sorted, in order after `position`."""
    intervals = [interval] if interval is not None else list(Interval)
    begin = 0 if position is None else bisect_left(symbols, position.symbol)
    for name in symbols[begin:]:
        last_rank = position.rank if position is not None and name == position.symbol else -1
        for each in intervals:
            if _RANKS[each] <= last_rank:
                continue
            if (series := venues.subscription(name, each)) is not None:
                yield name, series


def coverage_of(named: NamedSeries) -> SeriesCoverage:
    """Report the coverage of one series."""
    name, series = named
    ledger, interval, now_ms = series.ledger, series.interval, series.context.time.now_ms()
    found = SeriesStatistics.of(ledger, now_ms) if ledger.has_begun else _NOTHING
    newest_ms = found.newest_closed_ms
    return SeriesCoverage(
        symbol=name,
        venue=series.context.rest.venue.name,
        interval=str(interval),
        is_active=series.is_active,
        from_=utc(found.first_ms) if ledger.has_begun else None,
        to=utc(interval.shifted(found.end_ms, -1)) if found.expected else None,
        expected=found.expected,
        stored=found.closed,
        missing=_missing(ledger),
        absent=_absent(ledger),
        healed=found.healed,
        last_close=None if newest_ms is None else utc(interval.close_of(newest_ms)),
        lag_seconds=found.lag_ms / SECOND_MS,
        audited=None if series.audited_ms is None else utc(series.audited_ms),
    )


def missing_span(gap: Gap, ledger: Ledger) -> MissingSpan:
    """Report missing candles."""
    return MissingSpan(
        from_=utc(gap.first_ms),
        to=utc(ledger.interval.shifted(gap.end_ms, -1)),
        candles=ledger.count([gap]),
        urgency=gap.mark.urgency.name.lower(),
        how=HOW[gap.mark.urgency],
        error=gap.mark.error,
    )


def absent_span(absence: Span[Absence], ledger: Ledger) -> AbsentSpan:
    """Report absent candles."""
    return AbsentSpan(
        from_=utc(absence.first_ms),
        to=utc(ledger.interval.shifted(absence.end_ms, -1)),
        candles=ledger.count([absence]),
        reason=absence.mark.reason.value,
    )


def _missing(ledger: Ledger) -> MissingCandles:
    spans = [missing_span(gap, ledger) for gap in _newest(ledger.gaps)]
    return MissingCandles(ledger.missing, spans, len(ledger.gaps) - len(spans))


def _absent(ledger: Ledger) -> AbsentCandles:
    spans = [absent_span(absence, ledger) for absence in _newest(ledger.absences)]
    return AbsentCandles(ledger.absent, spans, len(ledger.absences) - len(spans))


def _newest(spans: Spans[T]) -> list[Span[T]]:
    return list(islice(reversed(spans), MOST_SPANS))[::-1]
