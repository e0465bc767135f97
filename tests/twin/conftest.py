"""Fixtures: a small twin, and third-party clients for it."""

from collections.abc import AsyncIterator

import pytest
import trio

from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import USDM
from tests.twin.samples import START_MS, Dial, dialling


@pytest.fixture
def market() -> RandomMarket:
    """A market of three symbols, of which the third has quiet minutes."""
    return RandomMarket(symbols=3, seed=7, start_ms=START_MS)


@pytest.fixture
async def twin(market: RandomMarket) -> AsyncIterator[Exchange]:
    """An exchange that sends one forming update a minute, and closing events."""
    async with open_exchange(market, USDM, tick_ms=60_000) as exchange:
        yield exchange


@pytest.fixture
def network(twin: Exchange, nursery: trio.Nursery) -> TwinNetwork:
    """An in-memory network to `twin`."""
    return TwinNetwork(twin, nursery)


@pytest.fixture
def dial(network: TwinNetwork, nursery: trio.Nursery) -> Dial:
    """A function that opens a websocket to a path of `twin` with trio-websocket."""
    return dialling(network, nursery)
