"""Whole-agent simulations: the real agent against the exchange twin, on whatever clock Trio has.

Nothing in here uses a thread, so a virtual clock (`trio.testing.MockClock`, pytest-trio's
`autojump_clock`) is exact: a day passes in seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import frozen

from klineagent.agent import Agent, open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import USDM, Venue
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.disk import Disk
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.market import Market
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named

FEBRUARY_2026_MS = 1_769_904_000_000
# The address is real and nobody calls there, unless a simulation wants to.
_LOOPBACK = Bind("127.0.0.1", 0)


@frozen(kw_only=True)
class Simulation:
    """The parts of a simulation, all of them running."""

    exchange: Exchange
    """`with exchange.offline():` is an outage of the exchange."""
    agent: Agent
    store: MemoryStore
    """`with store.offline():` is an outage of the database."""


@asynccontextmanager
async def open_simulation(
    *,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    intervals: Sequence[Interval] = (Interval.M1, Interval.M5, Interval.H1),
    market: Market | None = None,
    venue: Venue = USDM,
    store: MemoryStore | None = None,
    disk: Disk | None = None,
    state: Disk | None = None,
    tick_ms: int = MINUTE_MS,
    **settings: Any,
) -> AsyncIterator[Simulation]:
    """An agent that records `symbols` at `intervals` from a twin of `venue` into memory.

    Args:
        symbols: what it records from the start.
        intervals: at which intervals.
        market: what is traded; a made-up market from 2026-02-01 on if not given.
        venue: whose rules the twin keeps.
        store: where klines go; give the one of an earlier simulation to go on with its data.
        disk: where they wait while the store is away; no spool if not given.
        state: where it is kept what should run; give the one of an earlier simulation to go on.
        tick_ms: exchange time between two updates of a forming candle.
        settings: any other fields of `Config`.
    """
    store = store or MemoryStore()
    market = market or RandomMarket(
        symbols=max(3, len(symbols)), seed=1, start_ms=FEBRUARY_2026_MS, venue_name=venue.name
    )
    config = Config(
        symbols=tuple(symbols),
        intervals=tuple(intervals),
        venue=venue,
        store="memory:",
        command_bind=_LOOPBACK,
        status_bind=_LOOPBACK,
        agent_ip=_LOOPBACK.host,
        **settings,
    )
    async with (
        open_exchange(market, venue_named(venue.name), tick_ms=tick_ms) as exchange,
        trio.open_nursery() as connections,
    ):
        network = TwinNetwork(exchange, connections)
        async with open_agent(
            config, network=network, store=store, disk=disk, state=state
        ) as agent:
            yield Simulation(exchange=exchange, agent=agent, store=store)
        connections.cancel_scope.cancel(reason="the simulation is over")
