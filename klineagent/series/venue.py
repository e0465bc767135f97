"""Recording of one venue: everything between its exchange and the bus, as one block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from attrs import frozen

from klineagent.core.kline import Publish
from klineagent.exchange.budget import WeightPools
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.network import Network
from klineagent.exchange.rest import open_rest
from klineagent.exchange.stream.dispatcher import FormingTurns
from klineagent.exchange.stream.pool import open_pool
from klineagent.exchange.symbols import open_symbols
from klineagent.exchange.venues import Venue
from klineagent.series.backfill.known_gaps import KnownGaps, Series
from klineagent.series.backfill.startup import open_startup_scan
from klineagent.series.context import Received, VenueContext
from klineagent.series.registry import Places, Registry, open_registry
from klineagent.storage.store import Store


@frozen(kw_only=True)
class VenueSettings:
    """The configuration of one venue."""

    venue: Venue
    ws_url: str
    rest_url: str
    is_simulated: bool
    """See `Pace`."""
    conflate_s: float
    """Seconds between two states of a forming candle that are handed on; 0 hands on all."""
    history: int
    """The number of candles that a new series fetches from before its beginning."""
    lookback_ms: int
    """How far back the startup scan searches for gaps."""
    grace_ms: int
    """How long after a candle's close its closing event may come."""


@asynccontextmanager
async def open_venue(
    settings: VenueSettings,
    *,
    network: Network,
    pools: WeightPools,
    store: Store,
    publish: Publish,
    room: Callable[[], Awaitable[None]],
    known: Callable[[Series], KnownGaps | None],
    places: Places,
    turns: FormingTurns,
    received: Received,
) -> AsyncIterator[Registry]:
    """Open an empty registry of one venue, and the parts that it needs.

        REST client         spends from a weight pool; asks for the time while streams are silent
          symbols           loaded every minute
          pool              a task per connection slot, with its connections below it
            startup scan    looks up what the store holds of series that begin
              registry      a nursery per subscription

    Leaving the block ends these from the inside out. `publish` must work until then; `room` waits
    until the store takes rows; `known` returns what the last run saved of a series; `places` and
    `turns` are shared with other venues; `received` takes note of closing events.
    """
    venue, time = settings.venue, ExchangeTime(is_simulated=settings.is_simulated)
    async with (
        open_rest(
            network=network, venue=venue, rest_url=settings.rest_url, time=time, pools=pools
        ) as rest,
        open_symbols(rest) as symbols,
        open_pool(
            network=network,
            venue=venue,
            ws_url=settings.ws_url,
            time=time,
            publish=publish,
            conflate_s=settings.conflate_s,
            turns=turns,
        ) as pool,
        open_startup_scan(
            store,
            venue,
            time=time,
            history=settings.history,
            lookback_ms=settings.lookback_ms,
            known=known,
        ) as startup_scan,
        open_registry(
            context=VenueContext(
                pool=pool,
                book=symbols,
                rest=rest,
                time=time,
                startup_scan=startup_scan,
                publish=publish,
                room=room,
                grace_ms=settings.grace_ms,
                received=received,
            ),
            places=places,
        ) as registry,
    ):
        yield registry
