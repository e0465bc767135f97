"""The model of a caching proxy."""

from __future__ import annotations

import httpx2
import trio

from klineagent.bench.bots.proxy import CachingProxy
from klineagent.bench.twin import open_twin

NEWEST = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5"
OLDER = f"{NEWEST}&endTime=1800000000000"


async def test_equal_requests_are_forwarded_once_in_a_minute() -> None:
    """Those under way share an answer; ranges of time are forwarded each time."""
    async with open_twin("--start", "2027-02-02T00:00:20", symbols={"usdm": 1}) as twin:
        proxy = CachingProxy(httpx2.URL(twin.rest_urls["usdm"]).netloc.decode(), 0)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(proxy.answer, NEWEST)
        assert proxy.forwarded == 1
        answer = await proxy.answer(NEWEST)
        assert (answer.status, proxy.forwarded) == (200, 1)
        await proxy.answer(OLDER)
        await proxy.answer(OLDER)
        assert proxy.forwarded == 3
        assert (await proxy.answer("/forwarded")).body == b"3"
        await proxy.aclose()


async def test_an_exchange_that_is_away_is_a_bad_gateway() -> None:
    """And is asked again."""
    proxy = CachingProxy("127.0.0.1:9", 0)
    assert (await proxy.answer(NEWEST)).status == 502
    assert (await proxy.answer(NEWEST)).status == 502
    assert proxy.forwarded == 2
