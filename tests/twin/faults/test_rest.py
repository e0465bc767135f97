from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS
from klineagent.twin.exchange import Exchange
from klineagent.twin.network import TwinNetwork
from tests.twin.samples import START_MS

WEIGHT = "x-mbx-used-weight-1m"
NEWEST = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1"}


@pytest.fixture
async def client(network: TwinNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    """A REST client, in memory."""
    transport = network.http_transport()
    async with httpx2.AsyncClient(base_url="https://x/fapi/v1", transport=transport) as rest:
        yield rest


async def test_klines_may_lag(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """All candles are those of a past time; the longest of overlapping lags counts."""
    await trio.sleep(600)
    with twin.faults.lagging_rest(90_000), twin.faults.lagging_rest(1):
        (row,) = (await client.get("/klines", params=NEWEST)).json()
        assert row[0] == START_MS + 8 * MINUTE_MS
        assert (await client.get("/time")).json() == {"serverTime": START_MS + 600_000}
    await trio.sleep(1)
    (now,) = (await client.get("/klines", params=NEWEST)).json()
    assert now[0] == START_MS + 10 * MINUTE_MS
    past = NEWEST | {"startTime": str(row[0])}
    (whole,) = (await client.get("/klines", params=past)).json()
    assert row[8] < whole[8]
    assert twin.faults.injected == {"lagging_rest": 1}


async def test_all_requests_may_be_refused(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """429 until the minute is over, with `Retry-After`; it does not count as a breach."""
    await trio.sleep(20)
    with twin.faults.refusing_rest():
        answer = await client.get("/klines", params=NEWEST)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "40")
    assert answer.json()["code"] == -1003
    assert answer.headers[WEIGHT] == "1"
    assert (await client.get("/klines", params=NEWEST)).status_code == 200
    assert not twin.breaches


async def test_a_ban_says_when_it_ends(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """Each lasts two minutes, and a new one follows until the block ends."""
    with twin.faults.refusing_rest(418):
        for asked_s, left_s in ((0, 120), (30, 90), (130, 110)):
            await trio.sleep_until(asked_s)
            answer = await client.get("/ping")
            assert (answer.status_code, answer.headers["retry-after"]) == (418, str(left_s))
            until_ms = START_MS + (asked_s + left_s) * 1_000
            assert f"banned until {until_ms}." in answer.json()["msg"]


async def test_a_refusal_may_omit_its_end(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """Neither header nor text has it."""
    with twin.faults.refusing_rest(418, headers=False, tells_until=False):
        answer = await client.get("/ping")
    assert "retry-after" not in answer.headers
    assert "banned until further notice" in answer.json()["msg"]


async def test_weights_may_be_wrong_or_hidden(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """The weight itself is counted correctly."""
    with twin.faults.lying_weights():
        assert (await client.get("/ping")).headers[WEIGHT] == "0"
    with twin.faults.lying_weights(10):
        assert (await client.get("/ping")).headers[WEIGHT] == "20"
        with twin.faults.hiding_weights():
            assert WEIGHT not in (await client.get("/ping")).headers
    assert (await client.get("/ping")).headers[WEIGHT] == "4"
    assert twin.faults.injected == {"lying_weights": 3, "hiding_weights": 1}


async def test_servers_may_fail(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """With 500, with 503 in HTML and in JSON, and with truncated bodies."""
    kinds = set()
    with twin.faults.failing_rest():
        for _ in range(30):
            answer = await client.get("/klines", params=NEWEST)
            kinds.add((answer.status_code, answer.headers["content-type"][:9]))
            if answer.is_success:
                with pytest.raises(ValueError, match="line 1"):
                    answer.json()
    assert kinds == {
        (200, "applicati"),
        (500, "text/html"),
        (503, "text/html"),
        (503, "applicati"),
    }
    assert twin.faults.injected == {"failing_rest": 30}


async def test_a_share_of_requests_fails(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """The others are answered normally."""
    with twin.faults.failing_rest(0.3):
        statuses = [(await client.get("/ping")).status_code for _ in range(100)]
    assert 10 < sum(status >= 500 for status in statuses) < 40


async def test_requests_may_hang(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """There is no answer in the block; at the end of the last one the connection is reset."""

    async def ask() -> None:
        with pytest.raises(httpx2.ReadError):
            await client.get("/ping")
        broken_at.append(trio.current_time())

    broken_at: list[float] = []
    async with trio.open_nursery() as nursery:
        with twin.faults.hanging_rest():
            nursery.start_soon(ask)
            await trio.sleep(100)
            with twin.faults.hanging_rest():
                await trio.sleep(100)
            assert not broken_at
    assert broken_at == [200]
    assert (await client.get("/ping")).json() == {}
    assert twin.faults.injected == {"hanging_rest": 1}


async def test_an_outage_resets_hanging_requests(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """A waiting client fails at once."""
    async with trio.open_nursery() as nursery:
        with twin.faults.hanging_rest():

            async def ask() -> None:
                with pytest.raises(httpx2.ReadError), trio.fail_after(6):
                    await client.get("/ping")

            nursery.start_soon(ask)
            await trio.sleep(5)
            with twin.offline():
                await trio.sleep(5)
