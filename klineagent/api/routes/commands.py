"""The command API's app, with the routes that list, add and remove streams and symbols."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog
import trio
from msgspec import UNSET
from quart_trio import QuartTrio

from klineagent.api.app import json_app
from klineagent.api.guard import ANYONE, Guard
from klineagent.api.models.contract import (
    Connection,
    ConnectionCount,
    Connections,
    Current,
    Done,
    Status,
    StreamBody,
    Symbols,
    SymbolsAdded,
    SymbolsBody,
    venue_beside,
)
from klineagent.api.openapi import add_documents, operation
from klineagent.api.requests import read_body, stream_request, symbols_request
from klineagent.api.routes.health import add_ping_route
from klineagent.api.routes.logging import add_logging_routes
from klineagent.api.routes.symbols import SymbolResult, add_symbols, remove_symbols, summary
from klineagent.api.subscriptions import Subscriptions, confirmed_within
from klineagent.core.cooperate import in_portions
from klineagent.core.errors import (
    InvalidRequest,
    NotConfirmed,
    NotRunning,
    ShuttingDown,
    SymbolLimitReached,
)
from klineagent.core.interval import Interval
from klineagent.exchange.venues import Venue
from klineagent.series.registry import SubscriptionInfo

# A second less than callers wait, so that they get the reason before they hang up.
ADD_STREAM_WITHIN_S = 29
REMOVE_STREAM_WITHIN_S = 9
# A millisecond of work between checkpoints.
STREAMS_AT_ONCE = 250

_TITLE = "klineagent: commands"
_DESCRIPTION = "List, add and remove streams; query coverage, limits and storage."

log = structlog.get_logger()


def command_app(
    subscriptions: Subscriptions,
    intervals: Sequence[Interval],
    venue: Venue,
    guard: Guard = ANYONE,
) -> QuartTrio:
    """Make the app that controls `subscriptions`; adding a symbol adds all `intervals`.

    `venue` is that of symbols that do not name theirs.

    Queries never wait for anything, so only commands have deadlines.
    """
    app = json_app(__name__, guard)
    add_documents(app, guard, title=_TITLE, description=_DESCRIPTION)
    add_ping_route(app, is_open=False)
    add_query_routes(app, subscriptions)
    add_stream_routes(app, subscriptions, venue)
    add_symbol_routes(app, subscriptions, intervals, venue)
    add_logging_routes(app)
    return app


def add_query_routes(app: QuartTrio, subscriptions: Subscriptions) -> None:
    """Add the routes that list running streams."""

    @app.get("/connections/count")
    @operation(ConnectionCount, tag="queries")
    async def count_connections() -> ConnectionCount:
        """Count the running streams."""
        return ConnectionCount(subscriptions.count())

    @app.get("/connections/list")
    @operation(Connections, tag="queries")
    async def list_connections() -> Connections:
        """List the running streams."""
        listing = subscriptions.listing()
        connections = await in_portions(_connection, listing, at_once=STREAMS_AT_ONCE)
        return Connections(connections, len(connections))

    @app.get("/symbols")
    @operation(Symbols, tag="queries")
    async def list_symbols() -> Symbols:
        """List the symbols with running streams."""
        symbols = subscriptions.symbols()
        return Symbols(symbols, len(symbols))

    @app.get("/status")
    @operation(Status, tag="queries")
    async def status() -> Status:
        """Return the number of running streams and their symbols in one answer."""
        return Status(connection_count=subscriptions.count(), symbols=subscriptions.symbols())


def add_stream_routes(app: QuartTrio, subscriptions: Subscriptions, venue: Venue) -> None:
    """Add the routes that add and remove one stream."""

    @app.post("/streams/add")
    @operation(
        Done,
        tag="commands",
        body=StreamBody,
        raises=[InvalidRequest, SymbolLimitReached, ShuttingDown, NotConfirmed],
    )
    async def add_stream() -> Done:
        """Add a stream.

        Adding a running stream succeeds and changes nothing.
        """
        asked = stream_request(await read_body(StreamBody), venue)
        with confirmed_within(ADD_STREAM_WITHIN_S, partial(subscriptions.obstacle, asked.symbol)):
            is_new = await subscriptions.add(asked.symbol, asked.interval)
        if is_new:
            log.info("stream_added", symbol=asked.symbol, interval=str(asked.interval))
        return Done(message=f"Added stream for {asked.symbol} {asked.interval}")

    @app.post("/streams/remove")
    @operation(Done, tag="commands", body=StreamBody, raises=[NotRunning, NotConfirmed])
    async def remove_stream() -> Done:
        """Remove a stream."""
        asked = stream_request(await read_body(StreamBody), venue)
        with confirmed_within(
            REMOVE_STREAM_WITHIN_S, partial(subscriptions.obstacle, asked.symbol)
        ):
            await subscriptions.remove(asked.symbol, asked.interval)
        log.info("stream_removed", symbol=asked.symbol, interval=str(asked.interval))
        return Done(message=f"Removed stream for {asked.symbol} {asked.interval}")


def add_symbol_routes(
    app: QuartTrio, subscriptions: Subscriptions, intervals: Sequence[Interval], venue: Venue
) -> None:
    """Add the routes that add and remove symbols at all intervals."""

    @app.post("/symbols/add")
    @operation(
        {200: SymbolsAdded, 409: SymbolsAdded, 503: SymbolsAdded, 504: SymbolsAdded},
        tag="commands",
        body=SymbolsBody,
    )
    async def add_all() -> tuple[SymbolsAdded, int]:
        """Add symbols, each at all configured intervals that its venue has, or not at all.

        The call succeeds if at least one symbol was added; otherwise its status is that of the
        first failure.
        """
        symbols = symbols_request(await read_body(SymbolsBody), venue)
        started_at = trio.current_time()
        results = await add_symbols(subscriptions, symbols, intervals, venue)
        log.info(
            "symbols_added",
            streams=sum(result.succeeded for result in results),
            failed=[result.symbol for result in results if result.failure],
        )
        return _symbols_answer(results, _current(subscriptions), trio.current_time() - started_at)

    @app.post("/symbols/remove")
    @operation(
        {200: SymbolsAdded, 404: SymbolsAdded, 504: SymbolsAdded},
        tag="commands",
        body=SymbolsBody,
    )
    async def remove_all() -> tuple[SymbolsAdded, int]:
        """Remove symbols, each at all intervals at which it runs.

        The call succeeds if at least one symbol was removed; it is 404 if none is running.
        """
        symbols = symbols_request(await read_body(SymbolsBody), venue)
        started_at = trio.current_time()
        results = await remove_symbols(subscriptions, symbols)
        log.info(
            "symbols_removed",
            streams=sum(result.succeeded for result in results),
            failed=[result.symbol for result in results if result.failure],
        )
        return _symbols_answer(results, _current(subscriptions), trio.current_time() - started_at)


def _current(subscriptions: Subscriptions) -> Current:
    return Current(subscriptions.count(), subscriptions.symbols())


def _connection(info: SubscriptionInfo) -> Connection:
    return Connection(
        symbol=info.symbol,
        interval=str(info.interval),
        created_at=info.created_at,
        is_active=info.is_active,
        venue=venue_beside(info.symbol),
    )


def _symbols_answer(
    results: Sequence[SymbolResult], current: Current, duration_s: float
) -> tuple[SymbolsAdded, int]:
    """Return the answer with status 200 if a symbol succeeded, else that of the first failure."""
    failures = [result.failure for result in results if result.failure]
    nothing = failures[0] if len(failures) == len(results) else None
    answer = SymbolsAdded(
        status="partial" if failures else "ok",
        results=[result.counts() for result in results],
        current_status=current,
        summary=summary(results, duration_s),
        error=UNSET if nothing is None else str(nothing),
    )
    return answer, 200 if nothing is None else nothing.http_status
