"""Klines over HTTP: at once from memory, or through the app, and equal."""

from __future__ import annotations

import h11
import msgspec
import pytest
import trio
from trio.testing import MockClock

from klineagent.api.guard import Guard
from klineagent.api.reading.binance import read_app
from klineagent.api.reading.klines import KlinesAtOnce
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT
from klineagent.reading.candles import CandleReader
from klineagent.testing.simulation import Simulation, open_simulation

TOKEN = b"a-token-of-sixteen-characters"
KLINES = "/fapi/v1/klines?symbol=btcusdt&interval=1m&limit=5"


def a_reader(simulation: Simulation) -> CandleReader:
    """A reader whose tail the caller subscribes to the bus."""
    return CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)


def a_get(target: str, **headers: str) -> h11.Request:
    """A GET request."""
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return h11.Request(method="GET", target=target, headers=[("host", "127.0.0.1:9977"), *given])


async def test_what_is_answered_at_once_is_what_the_app_answers(
    autojump_clock: MockClock,
) -> None:
    """From the second read on; what must wait or be refused is left to the app."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        at_once, client = KlinesAtOnce(reader, Guard(is_local=True)), read_app(reader).test_client()
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(130)
            assert at_once(a_get(KLINES)) is None
            first = await client.get(KLINES)
            assert first.status_code == 200, await first.get_data()
            assert first.headers["X-Klineagent-Source"] == "store"
            answer, second = at_once(a_get(KLINES)), await client.get(KLINES)
            assert answer is not None
            assert answer.body == await second.get_data(as_text=False)
            assert dict(answer.headers) == {
                b"content-type": second.content_type.encode(),
                b"x-klineagent-source": second.headers["X-Klineagent-Source"].encode(),
            }
            assert at_once(a_get(f"{KLINES}&symbol=NOT")) is not None  # the first one counts
            for other in (
                "/fapi/v1/klines?symbol=BTCUSDT&interval=7m",
                "/fapi/v1/klines?symbol=ETHUSDT&interval=1m",
                "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=%FF",
                "/api/v3/klines?symbol=BTCUSDT&interval=1m",
                "/fapi/v1/time",
            ):
                assert at_once(a_get(other)) is None


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN.decode()}]
)
async def test_without_the_token_nothing_is_answered_at_once(
    autojump_clock: MockClock, headers: dict[str, str]
) -> None:
    """The app refuses such requests."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(130)
            await read_app(reader).test_client().get(KLINES)
            at_once = KlinesAtOnce(reader, Guard(token=TOKEN))
            assert at_once(a_get(KLINES, **headers)) is None
            assert at_once(a_get(KLINES, authorization=f"Bearer {TOKEN.decode()}")) is not None
            local = KlinesAtOnce(reader, Guard(is_local=True))
            assert local(a_get(KLINES, origin="http://evil.example")) is None


async def test_continuous_klines_are_those_of_the_perpetual_contract(
    autojump_clock: MockClock,
) -> None:
    """Of other contracts there are none."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        client = read_app(reader).test_client()
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(130)
            path = "/fapi/v1/continuousKlines?pair=BTCUSDT&interval=1m&limit=5"
            answer = await client.get(f"{path}&contractType=PERPETUAL")
            usual = await client.get(KLINES)
            assert await answer.get_data() == await usual.get_data()
            assert (await client.get(f"{path}&contractType=CURRENT_QUARTER")).status_code == 404
            missing = await client.get(path)
            assert (await missing.get_json())["code"] == -1102


async def test_spot_writes_times_in_microseconds_for_clients_that_ask(
    autojump_clock: MockClock,
) -> None:
    """The last microsecond of a candle is meant, as its last millisecond is."""
    path = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5"
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], venue=SPOT, tick_ms=1_000
    ) as simulation:
        reader = a_reader(simulation)
        client = read_app(reader).test_client()
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(130)
            usual = msgspec.json.decode(await (await client.get(path)).get_data())
            headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
            assert KlinesAtOnce(reader, Guard())(a_get(path, x_mbx_time_unit="MICROSECOND")) is None
            rows = msgspec.json.decode(await (await client.get(path, headers=headers)).get_data())
            for fine, row in zip(rows, usual, strict=True):
                assert fine == [row[0] * 1_000, *row[1:6], row[6] * 1_000 + 999, *row[7:]]
            other = await client.get(f"{path}&timeZone=8")
            assert (await other.get_json())["code"] == -1000
