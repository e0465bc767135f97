"""Whole-agent simulations: the real agent against the exchange twin, on Trio's current clock.

No thread is used, so a virtual clock (`trio.testing.MockClock`, pytest-trio's `autojump_clock`) is
exact: a day passes in seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import trio
from attrs import frozen

from klineagent.agent import Agent, open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import USDM, VENUES, Venue
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.disk import Disk
from klineagent.twin.archive.archive import PublicArchive, archive_of
from klineagent.twin.exchange import Exchange
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.market.market import Market
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork

FEBRUARY_2026_MS = 1_769_904_000_000
# The servers listen on a real port, which is used only if a simulation sends requests.
_LOOPBACK = Bind("127.0.0.1", 0)


@frozen(kw_only=True)
class Simulation:
    """The running parts of a simulation."""

    exchange: Exchange
    """`with exchange.offline():` simulates an outage of the exchange."""
    exchanges: Mapping[str, Exchange]
    """The exchanges of all venues by name; `exchange` is that of the agent's default venue."""
    archive: PublicArchive
    """What the exchanges have traded, as files."""
    agent: Agent
    store: MemoryStore
    """`with store.offline():` simulates an outage of the database."""


@asynccontextmanager
async def open_simulation(
    *,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    intervals: Sequence[Interval] = (Interval.M1, Interval.M5, Interval.H1),
    market: Market | None = None,
    venue: Venue = USDM,
    beside: Sequence[Venue] = (),
    markets: Mapping[str, Market] | None = None,
    store: MemoryStore | None = None,
    disk: Disk | None = None,
    state: Disk | None = None,
    tick_ms: int = MINUTE_MS,
    **settings: Any,
) -> AsyncIterator[Simulation]:
    """Run an agent that records `symbols` at `intervals` from a twin of `venue` into memory.

    With `beside` the twin plays other venues, too, each at its official hosts; symbols of theirs
    are written `spot:BTCUSDT`.

    Args:
        symbols: the symbols recorded from the start.
        intervals: the intervals of each symbol.
        market: the market the twin trades; by default a made-up one from 2026-02-01 on.
        venue: the venue whose rules the twin follows; the agent's default venue.
        beside: other venues that the twin plays.
        markets: what they trade, by the venue's name; made up where there is none.
        store: the database; pass that of an earlier simulation to continue with its data.
        disk: the disk with the spool; no spool by default.
        state: the disk with the desired set; pass that of an earlier simulation to continue.
        tick_ms: exchange time between two updates of a forming candle.
        settings: any other fields of `Config`.
    """
    store = store or MemoryStore()
    made_up = {
        each.name: RandomMarket(
            symbols=max(3, len(symbols)), seed=1, start_ms=FEBRUARY_2026_MS, venue_name=each.name
        )
        for each in (venue, *beside)
    }
    given = {**(markets or {}), **({venue.name: market} if market else {})}
    config = Config(
        symbols=tuple(symbols),
        intervals=tuple(intervals),
        venue=venue,
        store="memory:",
        command_bind=_LOOPBACK,
        status_bind=_LOOPBACK,
        agent_ip=_LOOPBACK.host,
        **{"read_bind": None, **settings},
    )
    async with (
        open_exchanges(made_up | given, tick_ms=tick_ms) as exchanges,
        trio.open_nursery() as connections,
    ):
        archive = archive_of(exchanges)
        network = network_of(exchanges, connections, archive)
        async with open_agent(
            config, network=network, store=store, disk=disk, state=state
        ) as agent:
            yield Simulation(
                exchange=exchanges[venue.name],
                exchanges=exchanges,
                archive=archive,
                agent=agent,
                store=store,
            )
        connections.cancel_scope.cancel(reason="the simulation is over")


def network_of(
    exchanges: Mapping[str, Exchange],
    connections: trio.Nursery,
    archive: PublicArchive | None = None,
) -> TwinNetwork:
    """Make the network of `exchanges` by venue: a single one is at every host.

    Several are each at the hosts of their venue's own URLs, and an archive is at its own.
    """
    if len(exchanges) == 1:
        [exchange] = exchanges.values()
        return TwinNetwork(exchange, connections, archive)
    hosts = {
        httpx2.URL(url).host: exchange
        for name, exchange in exchanges.items()
        for url in (VENUES[name].ws_url, VENUES[name].rest_url)
    }
    return TwinNetwork(hosts, connections, archive)
