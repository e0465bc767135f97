"""The routes of coverage, single candles, limits, connections and storage."""

from __future__ import annotations

from itertools import islice

from quart_trio import QuartTrio

from klineagent.api.models.reports import (
    Coverage,
    CoverageQuery,
    Feeds,
    Limits,
    Storage,
    Why,
    WhyQuery,
)
from klineagent.api.models.timestamps import read_moment, utc
from klineagent.api.openapi import operation
from klineagent.api.requests import interval_named, read_query
from klineagent.api.routes.coverage import PagePosition, coverage_of, cursor_of, series_after
from klineagent.api.routes.limits import feeds_of, limits_of, storage_of
from klineagent.api.routes.why import CandleLookup
from klineagent.core.cooperate import in_portions
from klineagent.core.errors import InvalidRequest
from klineagent.exchange.venues import Venue, full_name, symbol_named, venue_named
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer

# A millisecond or two of work between checkpoints.
SERIES_AT_ONCE = 50


def add_answer_routes(app: QuartTrio, *, venues: Venues, writer: Writer) -> None:
    """Add `GET /v1/coverage`, `/v1/why`, `/v1/limits`, `/v1/feeds` and `/v1/storage`."""
    lookup = CandleLookup(venues=venues, writer=writer)

    @app.get("/v1/coverage")
    @operation(Coverage, tag="data", query=CoverageQuery, raises=[InvalidRequest])
    async def coverage() -> Coverage:
        """Report how complete the series are: what is stored, what is missing, and why.

        Every candle from `from` to `to` is stored, missing or absent. The answer comes from memory;
        the database is not queried.
        """
        asked = read_query(CoverageQuery)
        among, symbols = asked_symbols(asked.symbol, asked.venue, venues)
        found = series_after(
            venues,
            PagePosition.read(asked.after) if asked.after else None,
            symbols=symbols,
            interval=interval_named(asked.interval, *among) if asked.interval else None,
        )
        page = list(islice(found, asked.limit + 1))
        reported = await in_portions(coverage_of, page[: asked.limit], at_once=SERIES_AT_ONCE)
        more = len(page) > asked.limit
        return Coverage(
            series=reported,
            total=venues.count(),
            at=utc(venues.main.context.time.now_ms()),
            next=cursor_of(page[asked.limit - 1]) if more else None,
        )

    @app.get("/v1/why")
    @operation(Why, tag="data", query=WhyQuery, raises=[InvalidRequest])
    async def why() -> Why:
        """Explain one candle: where it is, or why it is missing, and the database's row."""
        asked = read_query(WhyQuery)
        venue, symbol = symbol_named(
            asked.symbol, venues.default, beside=asked.venue, field="symbol"
        )
        interval = interval_named(asked.interval, venue)
        open_ms = read_moment(asked.open_time, field="open_time")
        return await lookup.why(venue, symbol, interval, open_ms)

    @app.get("/v1/limits")
    @operation(Limits, tag="data")
    async def limits() -> Limits:
        """Report the exchange's limits, this agent's own lower ones, and how much is used."""
        return limits_of(venues)

    @app.get("/v1/feeds")
    @operation(Feeds, tag="data")
    async def feeds() -> Feeds:
        """Report the connections: their streams, their message rates, and how they were lost."""
        return feeds_of(venues)

    @app.get("/v1/storage")
    @operation(Storage, tag="data")
    async def storage() -> Storage:
        """Report whether the database takes rows, and where waiting rows are."""
        return storage_of(writer)


def asked_symbols(symbol: str, venue: str, venues: Venues) -> tuple[list[Venue], list[str]]:
    """Return the venues that are asked about, and the symbols as answers write them, sorted.

    Both are as clients write them, or empty.

    Raises:
        InvalidRequest: the symbol or venue does not exist.
    """
    if symbol.strip():
        only, name = symbol_named(symbol, venues.default, beside=venue, field="symbol")
        return [only], [full_name(only, name, venues.default)]
    if venue:
        try:
            only = venue_named(venue)
        except ValueError as error:
            raise InvalidRequest(f"venue: {error}") from error
        return [only], venues.symbols(only)
    return [each.venue for each in venues], venues.symbols()
