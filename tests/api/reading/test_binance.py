"""The read server: klines over HTTP, as the exchange answers them."""

from __future__ import annotations

import gzip

import msgspec
import pytest
import trio
from trio.testing import MockClock

from klineagent.api.guard import Guard
from klineagent.api.reading.binance import read_app
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


async def test_the_list_of_symbols_is_asked_for_once_a_minute(autojump_clock: MockClock) -> None:
    """However many programs begin at once; each gets what the exchange has sent."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        agent, meter = simulation.agent, simulation.exchange.rest.meter
        reader = CandleReader(venues=agent.venues, writer=agent.writer)
        client = read_app(reader).test_client()
        await trio.sleep(90)
        bodies: list[bytes] = []

        async def ask(headers: dict[str, str]) -> None:
            answer = await client.get("/fapi/v1/exchangeInfo", headers=headers)
            body = await answer.get_data(as_text=False)
            zipped = answer.headers.get("Content-Encoding") == "gzip"
            assert zipped == bool(headers)
            bodies.append(gzip.decompress(body) if zipped else body)

        used = meter.used
        async with trio.open_nursery() as nursery:
            for headers in ({}, {"Accept-Encoding": "gzip"}, {}):
                nursery.start_soon(ask, headers)
        assert meter.used == used + 1
        assert len({*bodies}) == 1
        assert "BTCUSDT" in {each["symbol"] for each in msgspec.json.decode(bodies[0])["symbols"]}


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
