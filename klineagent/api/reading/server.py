"""The read server: its app, and what it answers past it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import frozen
from hypercorn.typing import ASGIFramework

from klineagent.api.guard import Guard
from klineagent.api.reading.binance import read_app
from klineagent.api.reading.candles import DOCUMENT_WITHIN_S
from klineagent.api.reading.klines import KlinesAtOnce
from klineagent.api.reading.streams import StreamRoutes
from klineagent.api.server.middleware import CutAnswers, RequestDeadline
from klineagent.api.server.shortcuts import Shortcuts
from klineagent.bus import Bus
from klineagent.reading.candles import CandleReader
from klineagent.reading.streams.hub import open_streams
from klineagent.series.venues import Venues
from klineagent.storage.writing.writer import Writer


@frozen
class ReadApi:
    """What the read server serves."""

    app: ASGIFramework
    shortcuts: Shortcuts


@asynccontextmanager
async def open_read_api(
    *, venues: Venues, writer: Writer, bus: Bus, guard: Guard, forward: bool
) -> AsyncIterator[ReadApi]:
    """Follow `bus` for programs that read, as long as the block lasts."""
    reader = CandleReader(venues=venues, writer=writer)
    async with open_streams(venues) as streams:
        with bus.subscribed(reader.tail), bus.followed(streams):
            app = CutAnswers(read_app(reader, guard, forward=forward))
            shortcuts = Shortcuts(
                sockets=StreamRoutes(streams, guard), answer=KlinesAtOnce(reader, guard)
            )
            yield ReadApi(RequestDeadline(app, DOCUMENT_WITHIN_S), shortcuts)
