"""Whole-agent simulations: the real agent against the exchange twin, on Trio's current clock.

No thread is used, so a virtual clock (`trio.testing.MockClock`, pytest-trio's `autojump_clock`) is
exact: a day passes in seconds.
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
# The servers listen on a real port, which is used only if a simulation sends requests.
_LOOPBACK = Bind("127.0.0.1", 0)


@frozen(kw_only=True)
class Simulation:
    """The running parts of a simulation."""

    exchange: Exchange
    """`with exchange.offline():` simulates an outage of the exchange."""
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
    store: MemoryStore | None = None,
    disk: Disk | None = None,
    state: Disk | None = None,
    tick_ms: int = MINUTE_MS,
    **settings: Any,
) -> AsyncIterator[Simulation]:
    """Run an agent that records `symbols` at `intervals` from a twin of `venue` into memory.

    Args:
        symbols: the symbols recorded from the start.
        intervals: the intervals of each symbol.
        market: the market the twin trades; by default a made-up one from 2026-02-01 on.
        venue: the venue whose rules the twin follows.
        store: the database; pass that of an earlier simulation to continue with its data.
        disk: the disk with the spool; no spool by default.
        state: the disk with the desired set; pass that of an earlier simulation to continue.
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
