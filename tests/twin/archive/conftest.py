"""Fixtures: the archive of a market of forty days, at noon of the day after them."""

from collections.abc import AsyncIterator

import pytest
import trio

from klineagent.core.interval import DAY_MS
from klineagent.twin.archive.archive import PublicArchive, archive_of
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import USDM
from tests.twin.archive.samples import NOON_MS, Client, PlainMarket


@pytest.fixture
def market() -> PlainMarket:
    """A market that began at noon, forty days before."""
    return PlainMarket(symbols=3, seed=7, start_ms=NOON_MS, history_ms=40 * DAY_MS)


@pytest.fixture
async def twin(market: PlainMarket) -> AsyncIterator[Exchange]:
    """An exchange that trades it."""
    async with open_exchange(market, USDM, tick_ms=60_000) as exchange:
        yield exchange


@pytest.fixture
def archive(twin: Exchange) -> PublicArchive:
    """The archive of `twin`."""
    return archive_of({"usdm": twin})


@pytest.fixture
async def client(
    twin: Exchange, archive: PublicArchive, nursery: trio.Nursery
) -> AsyncIterator[Client]:
    """A client of the archive and of REST."""
    transport = TwinNetwork(twin, nursery, archive).http_transport()
    async with Client(transport=transport) as opened:
        yield opened
