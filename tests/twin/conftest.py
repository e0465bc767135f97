"""A small twin, and clients that nobody wrote for it."""

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
    """Three symbols, the third of which has quiet minutes."""
    return RandomMarket(symbols=3, seed=7, start_ms=START_MS)


@pytest.fixture
async def twin(market: RandomMarket) -> AsyncIterator[Exchange]:
    """An exchange that says of each candle how it grows once a minute, and when it closes."""
    async with open_exchange(market, USDM, tick_ms=60_000) as exchange:
        yield exchange


@pytest.fixture
def network(twin: Exchange, nursery: trio.Nursery) -> TwinNetwork:
    """The way to `twin` in memory."""
    return TwinNetwork(twin, nursery)


@pytest.fixture
def dial(network: TwinNetwork, nursery: trio.Nursery) -> Dial:
    """Open a WebSocket to a path of `twin` with trio-websocket."""
    return dialling(network, nursery)
