"""`GET /v1/coverage/days`: which days of which series are complete, without a query."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import islice

from quart_trio import QuartTrio

from klineagent.api.dashboard.days import days_of
from klineagent.api.models.contract import venue_beside
from klineagent.api.models.overview import MOST_DAYS, CoverageDays, DaysQuery, SeriesDays
from klineagent.api.models.timestamps import utc
from klineagent.api.openapi import operation
from klineagent.api.requests import interval_named, read_query
from klineagent.api.routes.coverage import NamedSeries, PagePosition, cursor_of, series_after
from klineagent.api.routes.reports import asked_symbols
from klineagent.core.cooperate import in_portions
from klineagent.core.errors import InvalidRequest, NotReadable
from klineagent.core.interval import DAY_MS
from klineagent.jobs.imported_days import ImportedDays
from klineagent.series.venues import Venues

DEFAULT_DAYS = 30
# A millisecond or two of work between checkpoints.
SERIES_AT_ONCE, COUNTED_AT_ONCE = 150, 1_000
_EPOCH = date(1970, 1, 1)
_LAST_DAY = (date(9998, 12, 31) - _EPOCH).days


def add_days_route(app: QuartTrio, venues: Venues, imported: ImportedDays) -> None:
    """Add `GET /v1/coverage/days`."""

    @app.get("/v1/coverage/days")
    @operation(CoverageDays, tag="data", query=DaysQuery, raises=[InvalidRequest, NotReadable])
    async def coverage_days() -> CoverageDays:
        """Report which days of the series are complete, and which are not.

        The answer comes from memory; the database is not queried. Days that were imported are
        known, those that earlier runs recorded as far back as a series has been read since the
        start, or its state file says.
        """
        asked = read_query(DaysQuery)
        time = venues.main.context.time
        if not time.is_known:
            raise NotReadable("the time of the exchange is not known yet: try again")
        now_ms = time.now_ms()
        first_day, days = asked_days(asked, now_ms // DAY_MS)
        among, symbols = asked_symbols(asked.symbol, asked.venue, venues)
        interval = interval_named(asked.interval, *among) if asked.interval else None
        position = PagePosition.read(asked.after) if asked.after else None
        found = series_after(venues, position, symbols=symbols, interval=interval)
        report = _reporting(imported, first_day, days, now_ms)
        page = islice(found, asked.limit + 1)
        made = await in_portions(lambda each: (each, report(each)), page, at_once=SERIES_AT_ONCE)
        total = venues.count()
        if asked.symbol or asked.venue or interval is not None:
            every = series_after(venues, None, symbols=symbols, interval=interval)
            total = len(await in_portions(lambda each: each, every, at_once=COUNTED_AT_ONCE))
        more = len(made) > asked.limit
        return CoverageDays(
            from_=_text_of(first_day),
            days=days,
            at=utc(now_ms),
            series=[each for _, each in made[: asked.limit]],
            total=total,
            next=cursor_of(made[asked.limit - 1][0]) if more else None,
        )


def asked_days(asked: DaysQuery, today: int) -> tuple[int, int]:
    """Return the first day and the number of days that are asked for. Pure.

    Raises:
        InvalidRequest: one is no day, or there are none or too many.
    """
    to = _day_of(asked.to, "to") if asked.to else today + 1
    first = _day_of(asked.from_, "from") if asked.from_ else max(to - DEFAULT_DAYS, 0)
    if not 0 < to - first <= MOST_DAYS:
        raise InvalidRequest(
            f"from: {_text_of(first)} must be before to, {_text_of(to)}, and by {MOST_DAYS} days at"
            " most"
        )
    return first, to - first


def _day_of(text: str, field: str) -> int:
    try:
        day = (date.fromisoformat(text.strip()) - _EPOCH).days
    except ValueError as error:
        raise InvalidRequest(f"{field}: {text[:40]!r} is no day; write 2026-11-01") from error
    if not 0 <= day <= _LAST_DAY:
        raise InvalidRequest(f"{field}: {text} is outside the years 1970 to 9998")
    return day


def _text_of(day: int) -> str:
    return date.fromordinal(_EPOCH.toordinal() + day).isoformat()


def _reporting(
    imported: ImportedDays, first_day: int, days: int, now_ms: int
) -> Callable[[NamedSeries], SeriesDays]:
    first_ms, end_ms = first_day * DAY_MS, (first_day + days) * DAY_MS

    def report(named: NamedSeries) -> SeriesDays:
        name, series = named
        of = series.context.rest.venue.name, series.symbol, series.interval.value
        whole = imported.within(of, first_ms, end_ms)
        found = days_of(series.ledger, first_day, days, now_ms, whole)
        return SeriesDays(
            symbol=name,
            interval=series.interval.value,
            days=found.letters,
            missing=found.missing,
            absent=found.absent,
            healed=found.healed,
            venue=venue_beside(name),
        )

    return report
