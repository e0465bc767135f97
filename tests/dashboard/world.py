"""What a user's browser is pointed at: a twin, and an agent that can be lost and found again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import trio
from anyio.from_thread import BlockingPortal
from attrs import define, evolve, field

from klineagent.agent import Agent, open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import DAY_MS, Interval
from klineagent.exchange.venues import SPOT
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import network_of
from klineagent.twin.archive.archive import archive_of
from klineagent.twin.exchange import Exchange
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork

T = TypeVar("T")
NOON_MS = 1_769_947_200_000
"""2026-02-01 12:00 UTC."""
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
HISTORY_MS = 40 * DAY_MS
"""How long the symbols are listed: longer than the history that an agent fetches."""
_LOOPBACK = Bind("127.0.0.1", 0)


@define(eq=False, kw_only=True, repr=False)  # a whole agent makes a long one
class World:
    """The exchange and the agent that records from it."""

    loop: BlockingPortal
    """Trio, in a thread of its own: that of the test waits for the browser."""
    exchange: Exchange
    store: MemoryStore
    config: Config
    """The agent's; once it has run it names the port that was found."""
    _network: TwinNetwork
    agent: Agent = field(init=False)
    _running: ExitStack = field(init=False, factory=ExitStack)

    @property
    def origin(self) -> str:
        """Where the page is."""
        return f"http://{self.config.command_bind}"

    def fault(self, block: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """Let a fault of the exchange last as long as the test's block."""
        return self.loop.wrap_async_context_manager(_held(block))

    def recorded(self) -> set[str]:
        """The symbols that the agent records."""
        return self.loop.call(lambda: {each.symbol for each in self.agent.registry.subscriptions()})

    def find(self) -> None:
        """Start an agent, with the port and the database of the one before."""
        block = open_agent(self.config, network=self._network, store=self.store)
        self.agent = self._running.enter_context(self.loop.wrap_async_context_manager(block))
        self.config = evolve(self.config, command_bind=self.agent.command_bind)

    def lose(self) -> None:
        """Stop the agent."""
        self._running.close()


@contextmanager
def open_world(loop: BlockingPortal, *, symbols: int = 6, **settings: Any) -> Iterator[World]:
    """Run an exchange of `symbols`, and an agent with `settings` that records some of them."""
    config = Config(
        **{
            "symbols": SYMBOLS,
            "venue": SPOT,
            # A candle each second: what is lost and found again is seen within a few.
            "intervals": [Interval.S1, Interval.M1, Interval.M5],
            "grace_s": 1.0,
            "store": "memory:",
            "command_bind": _LOOPBACK,
            "status_bind": _LOOPBACK,
            "read_bind": None,
            "agent_ip": _LOOPBACK.host,
            **settings,
        }
    )
    with loop.wrap_async_context_manager(_open_exchange(symbols)) as (exchange, network):
        world = World(
            loop=loop, exchange=exchange, store=MemoryStore(), config=config, network=network
        )
        world.find()
        try:
            yield world
        finally:
            world.lose()


@asynccontextmanager
async def _open_exchange(symbols: int) -> AsyncIterator[tuple[Exchange, TwinNetwork]]:
    name = SPOT.name
    market = RandomMarket(
        symbols=symbols, seed=1, start_ms=NOON_MS, venue_name=name, history_ms=HISTORY_MS
    )
    async with open_exchanges({name: market}) as exchanges, trio.open_nursery() as connections:
        yield exchanges[name], network_of(exchanges, connections, archive_of(exchanges))
        connections.cancel_scope.cancel(reason="the test is over")


@asynccontextmanager
async def _held(block: AbstractContextManager[T]) -> AsyncIterator[T]:
    with block as entered:
        yield entered
