from __future__ import annotations

import inspect
from datetime import timedelta

import pytest
import trio

from klineagent.core.errors import ConfigError
from klineagent.core.interval import DAY_MS
from klineagent.twin.archive.archive import PublicArchive, archive_of
from klineagent.twin.archive.faults.faults import ArchiveFaults
from klineagent.twin.archive.faults.kinds import SHARES
from klineagent.twin.archive.faults.options import archive_faults
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.faults.options import open_faults, parse_fault
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import SPOT
from tests.places import ROOT
from tests.twin.archive.samples import NOON_MS, UM_1M, Client, PlainMarket

DAY = UM_1M.format("daily", "2026-01-30")


@pytest.mark.parametrize("kind", [*SHARES, "archive-slow-bodies"])
async def test_each_kind_is_an_option_of_the_archive(
    archive: PublicArchive, twin: Exchange, kind: str
) -> None:
    """Exchanges have nothing to do with it."""
    option = parse_fault(f"{kind}=1")
    with archive_faults(archive, [option]):
        async with open_faults(twin, [option]):
            await trio.lowlevel.checkpoint()
    assert not twin.faults.injected


async def test_an_option_strikes_its_venue_only(archive: PublicArchive, client: Client) -> None:
    """The files of others are right."""
    with archive_faults(archive, [parse_fault("spot:archive-lost-files=1")]):
        assert (await client.file(DAY)).status_code == 200
    with archive_faults(archive, [parse_fault("usdm:archive-lost-files=1")]):
        assert (await client.file(DAY)).status_code == 404


async def test_a_pace_is_a_positive_number() -> None:
    """Bytes a second."""
    with pytest.raises(ConfigError, match="needs a number of bytes a second"):
        parse_fault("archive-slow-bodies")
    with pytest.raises(ConfigError, match="a positive number of bytes a second"):
        parse_fault("archive-slow-bodies=0")


def test_each_method_is_documented() -> None:
    """With its option, where it has one."""
    text = (ROOT / "docs/simulation.md").read_text()
    methods = {
        name
        for name, method in inspect.getmembers(ArchiveFaults, inspect.isfunction)
        if not name.startswith("_") and "_Block" in str(method.__annotations__.get("return"))
    }
    assert len(methods) > 20
    assert {each for each in (*methods, *SHARES) if f"`{each}`" not in text} == set()


async def test_past_halts_are_in_archive_and_rest(nursery: trio.Nursery) -> None:
    """On spot there are no rows, and no file of a day without any."""
    inner = PlainMarket(
        symbols=1, seed=7, start_ms=NOON_MS, history_ms=40 * DAY_MS, venue_name="spot"
    )
    market = EventfulMarket(inner)
    async with (
        open_exchange(market, SPOT, tick_ms=60_000) as exchange,
        open_faults(exchange, [parse_fault("past-halts=0.5")]),
    ):
        transport = TwinNetwork(exchange, nursery, archive_of({"spot": exchange})).http_transport()
        async with Client(transport=transport) as client:
            folder = "data/spot/daily/klines/BTCUSDT/1m/"
            keys = (await client.keys(folder))[::2]
            counts = [len(await client.lines(each)) for each in keys]
            assert len(keys) < 40
            assert 0 < min(counts) < 1_440
            day_ms = NOON_MS - timedelta(days=20.5) // timedelta(milliseconds=1)
            rows = [
                int(line.split(",")[0]) // 1_000
                for each in keys
                for line in await client.lines(each)
            ]
            query = {
                "symbol": "BTCUSDT",
                "interval": "1m",
                "startTime": str(day_ms),
            }
            told = (await client.get("https://api.binance.com/api/v3/klines", params=query)).json()
            assert [each[0] for each in told] == [each for each in rows if each >= day_ms][:500]
