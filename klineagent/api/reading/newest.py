"""`GET /v1/last` and `/v1/tail` of the read server: newest candles, for clients that poll."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import h11
from attrs import define
from msgspec.json import encode
from msgspec.structs import replace
from quart_trio import QuartTrio

from klineagent.api.guard import Guard
from klineagent.api.models.candles import (
    CandleRow,
    LastCandle,
    LastCandles,
    LastQuery,
    TailCandles,
    TailQuery,
)
from klineagent.api.models.contract import venue_beside
from klineagent.api.models.reports import AbsentSpan, MissingSpan
from klineagent.api.models.timestamps import read_moment, utc
from klineagent.api.openapi import operation
from klineagent.api.reading.selection import names_in, series_named
from klineagent.api.requests import interval_named, read_query
from klineagent.api.routes.coverage import absent_span, missing_span
from klineagent.api.server.middleware import FewAtOnce
from klineagent.api.server.shortcuts import ReadyAnswer, passed
from klineagent.config.converters import WILDCARDS
from klineagent.core.cooperate import in_portions
from klineagent.core.errors import InvalidRequest, NotReadable, RequestError
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline, event_time_of, least_version
from klineagent.exchange.venues import full_name, symbol_named
from klineagent.reading.ranges import RangeReader, RecordedSeries, is_awaited
from klineagent.reading.request import CandleRange
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Gap, Missing
from klineagent.series.spans import Spans

# A millisecond or two of work between two checkpoints.
SERIES_AT_ONCE = 300

# The newest candles of thousands of series open at a few dozen times.
_utc = lru_cache(maxsize=1_000)(utc)


_TAIL = "/v1/tail"
# Most are answered from memory; the others wait for the store, by a line that has an end.
TAILS_AT_ONCE = 50
_PATHS = (_TAIL.encode(),)
_READY = ((b"content-type", b"application/json"),)
few_tails = partial(FewAtOnce, path=_TAIL, wait_s=5)


def add_newest_routes(app: QuartTrio, reader: RangeReader) -> None:
    """Add `GET /v1/last` and `/v1/tail`."""

    @app.get("/v1/last")
    @operation(LastCandles, tag="data", query=LastQuery, raises=[InvalidRequest, NotReadable])
    async def last() -> LastCandles:
        """Return the newest state of each series, whether closed or forming.

        The answer comes from memory; the database is not queried.
        """
        asked = read_query(LastQuery)
        series = await _asked_series(asked, reader)
        last_of = partial(_last_candle, reader)
        found = await in_portions(last_of, series, at_once=SERIES_AT_ONCE)
        candles = [each for each in found if each is not None]
        return LastCandles(candles, silent=len(found) - len(candles))

    @app.get(_TAIL)
    @operation(TailCandles, tag="data", query=TailQuery, raises=[InvalidRequest, NotReadable])
    async def tail() -> TailCandles:
        """Return the states of a series that are newer than `since`, closed and forming.

        A page that asks each second, with `next` of the last answer, misses no candle: where one is
        being fetched, the answer waits, or is 503, or lists it. A client that lists
        gaps asks for their candles again when they came.
        """
        asked = read_query(TailQuery)
        return tail_at_once(asked, reader) or await _tail(asked, reader)


def tail_at_once(asked: TailQuery, reader: RangeReader) -> TailCandles | None:
    """Return the tail if nothing but the forming candle can be in it, as nearly every second.

    Raises:
        RequestError: it is refused.
    """
    series = _asked_one(asked, reader)
    ledger, newest = series.ledger, series.subscription.newest
    if asked.before or not asked.since or not ledger.has_begun:
        return None
    wanted = _range_since(series, asked)
    if wanted.first_ms < ledger.horizon_ms or is_awaited(series, wanted):
        return None
    is_there = (
        newest is not None
        and not newest.is_closed
        and wanted.reaches(ledger.horizon_ms, newest.open_time)
    )
    return _answer(asked, series, [newest] if newest is not None and is_there else [], reader)


async def _tail(asked: TailQuery, reader: RangeReader) -> TailCandles:
    series = _asked_one(asked, reader)
    wanted = [(series, _range_before(series, asked) or _range_since(series, asked))]
    lists_gaps = asked.gaps == "listed"
    [candles] = await reader.open(wanted, with_forming=True, as_rows=True, lists_gaps=lists_gaps)
    bounds, rows = candles.bounds, list[Kline]()
    while (part := await candles.part()) is not None:
        rows += part
    answer = _answer(asked, series, rows, reader)
    if not lists_gaps:
        return answer
    missing, absent = _lists(series.ledger, bounds, candles.gaps or (), rows)
    return replace(answer, missing=missing, absent=absent)


def _asked_one(asked: TailQuery, reader: RangeReader) -> RecordedSeries:
    default = reader.venues.default
    venue, symbol = symbol_named(asked.symbol, default, beside="", field="symbol")
    if not WILDCARDS.isdisjoint(symbol):
        raise InvalidRequest("symbol: one symbol, no pattern; /v1/last takes patterns")
    return reader.one(venue, symbol, interval_named(asked.interval, venue))


def _answer(
    asked: TailQuery, series: RecordedSeries, rows: Iterable[Kline], reader: RangeReader
) -> TailCandles:
    newer = [row for row in rows if row.version > asked.since]
    return TailCandles(
        symbol=full_name(series.venue.venue, series.subscription.symbol, reader.venues.default),
        interval=asked.interval,
        candles=[CandleRow(**_values(row)) for row in newer],
        next=_cursor(newer[-1]) if newer else asked.since,
    )


@define
class TailAtOnce:
    """Answers requests for tails past the app, which takes ten times as long."""

    reader: RangeReader
    guard: Guard

    def __call__(self, asked: h11.Request) -> ReadyAnswer | None:
        """Answer a request, or leave it to the app: so all that is refused is refused there."""
        request = passed(asked, self.guard, _PATHS)
        if request is None or (query := request.query(TailQuery)) is None:
            return None
        try:
            tail = tail_at_once(query, self.reader)
        except RequestError:
            return None
        return None if tail is None else ReadyAnswer(encode(tail), _READY)


async def _asked_series(asked: LastQuery, reader: RangeReader) -> list[RecordedSeries]:
    if asked.symbol:
        return await series_named(asked.symbol, asked.interval, reader)
    among = [each.venue for each in reader.venues]
    names = names_in(asked.interval, "interval") if asked.interval else []
    intervals = [interval_named(each, *among) for each in names] or [*Interval]
    return [each for venue in among for each in await reader.matching(venue, "*", intervals)]


def _last_candle(reader: RangeReader, series: RecordedSeries) -> LastCandle | None:
    if (newest := series.subscription.newest) is None:
        return None
    name = full_name(series.venue.venue, newest.symbol, reader.venues.default)
    return LastCandle(
        symbol=name, interval=newest.interval, venue=venue_beside(name), **_values(newest)
    )


def _values(row: Kline) -> dict[str, Any]:
    return {
        "open_time": _utc(row.open_time),
        "open": row.open,
        "high": row.high,
        "low": row.low,
        "close": row.close,
        "volume": row.volume,
        "quote_volume": row.quote_volume,
        "trades": row.trades,
        "is_closed": row.is_closed,
        "event_time": utc(row.event_time),
        "version": row.version,
        "source": row.source,
    }


def _lists(
    ledger: Ledger, bounds: tuple[int, int], gaps: Iterable[Gap], rows: Iterable[Kline]
) -> tuple[list[MissingSpan], list[AbsentSpan]]:
    """List what is missing and absent, of what was read: some candles came meanwhile."""
    left: Spans[Missing] = Spans()
    for gap in (*gaps, *ledger.gaps.within(*bounds)):
        left.mark(*gap)
    for row in rows if left else ():
        left.clear(row.open_time, ledger.interval.next_open(row.open_time))
    absent = ledger.absences.within(*bounds)
    for each in absent:
        left.clear(each.first_ms, each.end_ms)
    return (
        [missing_span(each, ledger) for each in left],
        [absent_span(each, ledger) for each in absent],
    )


def _range_before(series: RecordedSeries, asked: TailQuery) -> CandleRange | None:
    """Return the range before a time, if one is asked for.

    Raises:
        InvalidRequest: it is no time, or both ends are asked for.
    """
    if not asked.before:
        return None
    if asked.since:
        raise InvalidRequest("before: not together with since")
    return CandleRange(
        symbol=series.subscription.symbol,
        interval=series.subscription.interval,
        end_ms=read_moment(asked.before, field="before"),
        last=asked.limit,
    )


def _range_since(series: RecordedSeries, asked: TailQuery) -> CandleRange:
    """Return the candles whose states can be newer than a state: from that one's on."""
    subscription = series.subscription
    symbol, interval = subscription.symbol, subscription.interval
    if not asked.since:
        return CandleRange(symbol=symbol, interval=interval, last=asked.limit)
    # No state is newer than the forming candle, whatever a client makes up.
    since_ms = min(event_time_of(asked.since), series.ledger.horizon_ms)
    first_ms = max(interval.open_at(since_ms), series.ledger.first_ms)
    end_ms = interval.shifted(first_ms, asked.limit)
    return CandleRange(symbol=symbol, interval=interval, first_ms=first_ms, end_ms=end_ms)


def _cursor(row: Kline) -> int:
    """Return the version after which newer states of a row's candle come, or of the next one.

    A closed candle may have come late, or as a repair: then states of the next ones rank below it.
    """
    return least_version(row.close_time) if row.is_closed else row.version
