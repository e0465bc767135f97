"""The read server: klines over HTTP, as the exchange answers them."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from klineagent.api.guard import Guard
from klineagent.api.routes.binance import read_app
from klineagent.core.interval import Interval
from klineagent.reading.candles import CandleReader
from klineagent.testing.simulation import open_simulation

TOKEN = b"a-token-of-sixteen-characters"


async def test_klines_time_and_errors_over_http(autojump_clock: MockClock) -> None:
    """Content types, codes and statuses are those that clients of the exchange know."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        agent = simulation.agent
        reader = CandleReader(venues=agent.venues, writer=agent.writer)
        client = read_app(reader).test_client()
        with agent.bus.subscribed(reader.tail):
            await trio.sleep(130)
            answer = await client.get("/fapi/v1/klines?symbol=btcusdt&interval=1m&limit=5")
            assert (answer.status_code, answer.content_type) == (
                200,
                "application/json;charset=UTF-8",
            )
            rows = msgspec.json.decode(await answer.get_data())
            assert [len(row) for row in rows] == [12] * 5
            answer = await client.get("/fapi/v1/time")
            assert (await answer.get_json())["serverTime"] > rows[-1][0]
            assert await (await client.get("/fapi/v1/ping")).get_json() == {}
            answer = await client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=7m")
            assert (answer.status_code, await answer.get_json()) == (
                400,
                {"code": -1120, "msg": "Invalid interval."},
            )
            answer = await client.get("/api/v3/klines?symbol=BTCUSDT&interval=1m")
            assert answer.status_code == 503
            assert (await answer.get_json())["code"] == -1000


@pytest.mark.parametrize("path", ["/fapi/v1/klines", "/fapi/v1/time", "/nothing"])
async def test_without_the_token_nothing_answers(autojump_clock: MockClock, path: str) -> None:
    """Not even whether there is such a path."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        agent = simulation.agent
        reader = CandleReader(venues=agent.venues, writer=agent.writer)
        client = read_app(reader, Guard(token=TOKEN)).test_client()
        assert (await client.get(path)).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN.decode()}"}
        assert (await client.get(path, headers=headers)).status_code != 401
