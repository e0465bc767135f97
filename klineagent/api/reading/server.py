"""Reading over HTTP: what two servers answer by, and the read server, which has shortcuts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
import trio
from attrs import Factory, frozen
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio

from klineagent.api.guard import Guard
from klineagent.api.reading.binance import read_app
from klineagent.api.reading.candles import (
    DOCUMENT_WITHIN_S,
    DOCUMENTS_AT_ONCE,
    add_candle_routes,
    few_documents,
)
from klineagent.api.reading.klines import KlinesAtOnce
from klineagent.api.reading.newest import TAILS_AT_ONCE, TailAtOnce, add_newest_routes, few_tails
from klineagent.api.reading.streams import StreamRoutes
from klineagent.api.server.listen import Listener, open_listener
from klineagent.api.server.middleware import CutAnswers, RequestDeadline
from klineagent.api.server.shortcuts import Shortcuts, first_of
from klineagent.bus import Bus
from klineagent.config.model import DEFAULT_READ_BIND
from klineagent.core.address import Bind
from klineagent.core.errors import StartError
from klineagent.exchange.venues import Venue
from klineagent.reading.candles import CandleReader
from klineagent.reading.kept_files import KeptFiles
from klineagent.reading.ranges import RangeReader
from klineagent.reading.streams.hub import StreamCounts, open_streams
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer

log = structlog.get_logger()


@asynccontextmanager
async def open_read_listener(bind: Bind | None) -> AsyncIterator[Listener | None]:
    """Listen at `bind`, if there is one; where the default one is taken, go on without.

    Raises:
        StartError: `bind` cannot be listened on.
    """
    async with AsyncExitStack() as opened:
        listener = None
        try:
            if bind is not None:
                option = "" if bind is DEFAULT_READ_BIND else "--read-bind"
                listener = await opened.enter_async_context(open_listener(bind, option))
        except StartError as error:
            # What a user has written is another object, be it equal.
            if bind is not DEFAULT_READ_BIND:
                raise
            hint = "another agent, perhaps; name an address with --read-bind, or none"
            log.warning("not_readable", reason=str(error), hint=hint)
        yield listener


@frozen(kw_only=True)
class Reading:
    """What programs read by, at the read server and at the command server."""

    candles: CandleReader
    ranges: RangeReader
    files: KeptFiles
    _documents: trio.CapacityLimiter = Factory(partial(trio.CapacityLimiter, DOCUMENTS_AT_ONCE))
    _tails: trio.CapacityLimiter = Factory(partial(trio.CapacityLimiter, TAILS_AT_ONCE))

    def add_routes(self, app: QuartTrio) -> None:
        """Add the routes of our own; those of the exchange are the read server's."""
        add_candle_routes(app, self.ranges, self.files)
        add_newest_routes(app, self.ranges)

    def bounded(self, app: ASGIFramework) -> ASGIFramework:
        """Return `app` with the bounds of these routes; what cannot be read to its end is cut."""
        documents = few_documents(CutAnswers(app), places=self._documents)
        return few_tails(documents, places=self._tails)


@asynccontextmanager
async def open_reading(
    *, venues: Venues, writer: Writer, bus: Bus, forwards: frozenset[Venue]
) -> AsyncIterator[Reading]:
    """Follow `bus` for programs that read, as long as the block lasts."""
    candles = CandleReader(venues=venues, writer=writer, forwards=forwards)
    ranges, files = RangeReader(venues=venues, writer=writer), KeptFiles()
    async with trio.open_nursery() as background:
        background.start_soon(files.run)
        with bus.subscribed(candles.tail):
            yield Reading(candles=candles, ranges=ranges, files=files)
        background.cancel_scope.cancel(reason="nothing is read any more")


@frozen
class ReadApi:
    """What the read server serves."""

    app: ASGIFramework
    shortcuts: Shortcuts


@asynccontextmanager
async def open_read_api(
    reading: Reading, *, bus: Bus, guard: Guard, counts: StreamCounts
) -> AsyncIterator[ReadApi]:
    """Follow `bus` for clients of streams, as long as the block lasts."""
    candles = reading.candles
    async with open_streams(candles.venues, counts) as streams:
        with bus.followed(streams):
            app = read_app(candles, guard, ranges=reading.ranges, files=reading.files)
            shortcuts = Shortcuts(
                sockets=StreamRoutes(streams, guard),
                answer=first_of(KlinesAtOnce(candles, guard), TailAtOnce(reading.ranges, guard)),
            )
            yield ReadApi(RequestDeadline(reading.bounded(app), DOCUMENT_WITHIN_S), shortcuts)
