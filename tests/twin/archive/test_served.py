"""The archive where clients find it: at its own hosts in memory, at a path of a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import httpx2
import pytest
import trio

from klineagent.testing.simulation import open_simulation
from klineagent.twin.archive.archive import PublicArchive
from klineagent.twin.exchange import Exchange
from klineagent.twin.server import serve_exchange
from tests.twin.archive.samples import UM_1M, Client

DAY = UM_1M.format("daily", "2026-01-30")


@pytest.fixture
async def port(
    twin: Exchange, archive: PublicArchive, nursery: trio.Nursery
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a real port with both."""
    serve = partial(serve_exchange, twin, "127.0.0.1", 0, archive=archive)
    host, number = await nursery.start(serve)
    async with httpx2.AsyncClient(base_url=f"http://{host}:{number}", trust_env=False) as opened:
        yield opened


async def test_it_is_at_both_of_its_hosts(client: Client) -> None:
    """As a bucket by name, too."""
    listing = await client.get(
        "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
        params={"prefix": "data/", "delimiter": "/"},
    )
    assert "<Prefix>data/futures/</Prefix>" in listing.text
    one = await client.get(f"https://s3-ap-northeast-1.amazonaws.com/data.binance.vision/{DAY}")
    assert one.content == (await client.file(DAY)).content


async def test_an_outage_of_the_exchange_is_none_of_the_archive(
    client: Client, twin: Exchange
) -> None:
    """They have nothing in common."""
    with twin.offline():
        assert (await client.file(DAY)).status_code == 200


async def test_a_simulation_has_one() -> None:
    """Of all its venues; on the first day nothing is published."""
    async with open_simulation(symbols=["BTCUSDT"]) as simulation:
        answer = await simulation.archive.answer("GET", "/?prefix=data/", {})
        assert answer is not None
        assert b"<IsTruncated>false" in answer.body


async def test_a_real_port_has_it_at_a_path(port: httpx2.AsyncClient, client: Client) -> None:
    """Beside REST, over the same connection."""
    assert (await port.get("/fapi/v1/ping")).json() == {}
    assert (await port.get(f"/archive/{DAY}")).content == (await client.file(DAY)).content
    head = await port.head(f"/archive/{DAY}")
    assert int(head.headers["content-length"]) > 10_000
    listing = await port.get("/archive", params={"prefix": "data/", "delimiter": "/"})
    assert "<Prefix>data/futures/</Prefix>" in listing.text
    assert (await port.get("/archives")).status_code == 404


async def test_a_cut_body_resets_a_real_connection(
    port: httpx2.AsyncClient, archive: PublicArchive
) -> None:
    """The client sees that the rest is missing; the next request is answered."""
    with archive.faults.cut_bodies(), pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        await port.get(f"/archive/{DAY}")
    assert (await port.get(f"/archive/{DAY}")).status_code == 200
