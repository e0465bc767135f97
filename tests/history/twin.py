"""Imports from the twin's archive and exchange into memory, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from klineagent.core.interval import DAY_MS, Interval
from klineagent.core.kline import Kline
from klineagent.exchange.venues import VENUES
from klineagent.history.archive.place import PUBLIC, open_archive
from klineagent.history.events import Event, ImportSummary
from klineagent.history.exchanges import open_exchange_of
from klineagent.history.importing import Importer
from klineagent.history.survey import AskedSymbol, ImportRequest
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Store
from klineagent.twin.archive.archive import PublicArchive, archive_of
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.candle import Candle
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import USDM, VenueRules
from tests.twin.archive.samples import NOON_MS, PlainMarket

BEGIN_MS = NOON_MS - 40 * DAY_MS
"""2025-12-23, noon: when the market began. Now is noon of 2026-02-01."""


@define(kw_only=True)
class Past:
    """A twin with a past of forty days, and what imports from it tell."""

    exchange: Exchange
    archive: PublicArchive
    network: TwinNetwork
    events: list[Event] = field(factory=list)

    async def imported(
        self,
        store: Store,
        *symbols: str,
        intervals: Sequence[Interval] = (Interval.H1,),
        first_ms: int | None = None,
        end_ms: int | None = None,
        rest: bool = True,
    ) -> ImportSummary:
        """Import these symbols, or BTCUSDT, up to now if nothing else is said."""
        name = self.exchange.venue.name
        venues = [VENUES[name]] if rest else []
        self.events.clear()
        async with (
            open_archive(PUBLIC, self.network) as archive,
            open_exchange_of(venues, lambda venue: venue.rest_url, self.network) as exchanges,
        ):
            importer = Importer(
                archive=archive,
                exchanges=exchanges,
                store=store,
                request=ImportRequest(
                    asked=[AskedSymbol(name, each) for each in symbols or ("BTCUSDT",)],
                    intervals=intervals,
                    first_ms=first_ms,
                    end_ms=self.exchange.clock.now_ms() if end_ms is None else end_ms,
                ),
                report=self.events.append,
                now_ms=self.exchange.clock.now_ms,
            )
            await importer.plan()
            return await importer.run()


@define(kw_only=True)
class HaltedMarket(PlainMarket):
    """A market that once stood still."""

    halt: tuple[int, int]

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """See `Market`."""
        first_ms, end_ms = self.halt
        return None if first_ms <= open_ms < end_ms else PlainMarket.minute(self, symbol, open_ms)


@asynccontextmanager
async def open_past(
    venue: VenueRules = USDM, halt: tuple[int, int] = (0, 0)
) -> AsyncIterator[Past]:
    """Open a twin at noon of 2026-02-01; in a `halt` there were no candles."""
    market = HaltedMarket(
        symbols=3,
        seed=7,
        start_ms=NOON_MS,
        history_ms=40 * DAY_MS,
        venue_name=venue.name,
        halt=halt,
    )
    async with (
        open_exchange(market, venue, tick_ms=60_000) as exchange,
        trio.open_nursery() as connections,
    ):
        archive = archive_of({venue.name: exchange})
        yield Past(
            exchange=exchange,
            archive=archive,
            network=TwinNetwork(exchange, connections, archive),
        )
        connections.cancel_scope.cancel(reason="the test is over")


def values(store: MemoryStore) -> dict[int, tuple[object, ...]]:
    """What is stored of candles, by open time, but for what says whence a row came."""
    return {kline.open_time: _told(kline) for kline in store.klines.values()}


def _told(kline: Kline) -> tuple[object, ...]:
    return (*kline[:14], kline.is_closed)


def sources(store: MemoryStore) -> dict[str, int]:
    """How many candles came from where."""
    found = [kline.source for kline in store.klines.values()]
    return {source: found.count(source) for source in sorted(set(found))}
