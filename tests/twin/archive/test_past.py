"""Symbols that are no longer listed, in the archive of a market that began years ago."""

from __future__ import annotations

import pytest
import trio

from klineagent.core.interval import DAY_MS
from klineagent.twin.archive.archive import archive_of
from klineagent.twin.exchange import open_exchange
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import COINM, SPOT, USDM, VenueRules
from tests.twin.archive.samples import NOON_MS, Client, PlainMarket


@pytest.mark.parametrize(
    ("venue", "folder", "delisted"),
    [
        (USDM, "futures/um", ["OMGUSDT", "BTCUSDT_241227", "BTCUSDT_250328"]),
        (COINM, "futures/cm", ["OMGUSD_PERP", "BTCUSD_241227"]),
        (SPOT, "spot", ["OMGUSDT"]),
    ],
)
async def test_delisted_symbols_keep_their_files(
    venue: VenueRules, folder: str, delisted: list[str], nursery: trio.Nursery
) -> None:
    """To their last minute; contracts that were delivered, too. None of them trades."""
    market = PlainMarket(
        symbols=1, seed=7, start_ms=NOON_MS, history_ms=500 * DAY_MS, venue_name=venue.name
    )
    async with open_exchange(market, venue, tick_ms=60_000) as exchange:
        archive = archive_of({venue.name: exchange})
        transport = TwinNetwork(exchange, nursery, archive).http_transport()
        async with Client(transport=transport) as client:
            keys = await client.keys(f"data/{folder}/daily/klines/")
            assert {each.split("/")[-2] for each in keys} >= set(delisted)
            info = (await client.get(f"https://x{venue.rest_prefix}/exchangeInfo")).json()
            trading = {
                each["symbol"]
                for each in info["symbols"]
                if "TRADING" in {each.get("status"), each.get("contractStatus")}
            }
            assert len(info["symbols"]) == len({each["symbol"] for each in info["symbols"]})
            assert trading.isdisjoint(delisted)
            symbol = delisted[0]
            files = await client.keys(f"data/{folder}/daily/klines/{symbol}/1m/")
            assert files[-2].endswith("-2025-01-31.zip")
            lines = [each for each in await client.lines(files[-2]) if each[0].isdigit()]
            assert len(lines) == 9 * 60
