"""The read server: its app, and what it answers past it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import trio
from attrs import frozen
from hypercorn.typing import ASGIFramework

from klineagent.api.guard import Guard
from klineagent.api.reading.binance import read_app
from klineagent.api.reading.candles import DOCUMENT_WITHIN_S, few_documents
from klineagent.api.reading.klines import KlinesAtOnce
from klineagent.api.reading.newest import few_tails
from klineagent.api.reading.streams import StreamRoutes
from klineagent.api.server.listen import Listener, open_listener
from klineagent.api.server.middleware import CutAnswers, RequestDeadline
from klineagent.api.server.shortcuts import Shortcuts
from klineagent.bus import Bus
from klineagent.config.model import DEFAULT_READ_BIND
from klineagent.core.address import Bind
from klineagent.core.errors import StartError
from klineagent.exchange.venues import Venue
from klineagent.reading.candles import CandleReader
from klineagent.reading.kept_files import KeptFiles
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
                listener = await opened.enter_async_context(open_listener(bind))
        except StartError as error:
            # What a user has written is another object, be it equal.
            if bind is not DEFAULT_READ_BIND:
                raise
            hint = "another agent, perhaps; name an address with --read-bind, or none"
            log.warning("not_readable", reason=str(error), hint=hint)
        yield listener


@frozen
class ReadApi:
    """What the read server serves."""

    app: ASGIFramework
    shortcuts: Shortcuts


@asynccontextmanager
async def open_read_api(
    *,
    venues: Venues,
    writer: Writer,
    bus: Bus,
    guard: Guard,
    forwards: frozenset[Venue],
    counts: StreamCounts,
) -> AsyncIterator[ReadApi]:
    """Follow `bus` for programs that read, as long as the block lasts."""
    reader, files = CandleReader(venues=venues, writer=writer, forwards=forwards), KeptFiles()
    async with open_streams(venues, counts) as streams, trio.open_nursery() as background:
        background.start_soon(files.run)
        with bus.subscribed(reader.tail), bus.followed(streams):
            app = CutAnswers(read_app(reader, guard, files=files))
            bounded = few_tails(few_documents(app))
            shortcuts = Shortcuts(
                sockets=StreamRoutes(streams, guard), answer=KlinesAtOnce(reader, guard)
            )
            yield ReadApi(RequestDeadline(bounded, DOCUMENT_WITHIN_S), shortcuts)
        background.cancel_scope.cancel(reason="nothing is served any more")
