"""`/v1/last` and `/v1/tail`: the newest candles, held against the market."""

from __future__ import annotations

from typing import Any

import h11
import msgspec
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock

from klineagent.api.guard import Guard
from klineagent.api.reading.binance import read_app
from klineagent.api.reading.newest import TailAtOnce
from klineagent.api.server.shortcuts import ReadyAnswer
from klineagent.core.interval import Interval
from klineagent.exchange.venues import SPOT
from klineagent.reading.candles import CandleReader
from klineagent.reading.ranges import RangeReader
from klineagent.testing.simulation import Simulation, open_simulation
from tests.simulations.looking import MINUTE_S


def an_app(simulation: Simulation) -> QuartTrio:
    """The read server's app."""
    agent = simulation.agent
    return read_app(CandleReader(venues=agent.venues, writer=agent.writer))


async def told(app: QuartTrio, path: str, status: int = 200) -> Any:
    """What is answered."""
    answer = await app.test_client().get(path)
    assert answer.status_code == status, path
    return msgspec.json.decode(await answer.get_data(as_text=False))


async def test_the_newest_state_of_each_series(autojump_clock: MockClock) -> None:
    """As the exchange tells it at the same moment, without the database."""
    async with open_simulation(
        symbols=["BTCUSDT", "ETHUSDT", "spot:BTCUSDT"],
        intervals=[Interval.M1, Interval.M5],
        beside=[SPOT],
        tick_ms=1_000,
    ) as simulation:
        app = an_app(simulation)
        await trio.sleep(2 * MINUTE_S + 30.5)
        with simulation.store.offline():
            found = await told(app, "/v1/last")
            names = [(each["symbol"], each["interval"]) for each in found["candles"]]
            symbols = ["BTCUSDT", "ETHUSDT", "spot:BTCUSDT"]
            assert names == [(symbol, i) for symbol in symbols for i in ("1m", "5m")]
            assert found["silent"] == 0
            ether = await told(app, "/v1/last?symbol=ETH*&interval=1m")
        exchange = simulation.exchange
        query = {"symbol": "ETHUSDT", "interval": "1m", "limit": "1"}
        path = f"{exchange.venue.rest_prefix}/klines"
        answer = exchange.rest.answer("GET", path, query, exchange.clock.now_ms())
        [row] = msgspec.json.decode(answer.body)
        [candle] = ether["candles"]
        assert candle["open"] == float(row[1]) == found["candles"][2]["open"]
        assert candle["version"] >= found["candles"][2]["version"]
        assert not candle["is_closed"]
        only_spot = await told(app, "/v1/last?symbol=spot:*")
        assert {each["venue"] for each in only_spot["candles"]} == {"spot"}
        assert await told(app, "/v1/last?symbol=*XYZ", 503)
        assert await told(app, "/v1/last?interval=7m", 400)


async def test_a_page_that_asks_each_second_misses_no_candle(autojump_clock: MockClock) -> None:
    """Not even those that came late; where one is fetched it is told to wait."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=600, tick_ms=1_000
    ) as simulation:
        app = an_app(simulation)
        await trio.sleep(2 * MINUTE_S)
        closed: dict[str, dict[str, Any]] = {}
        since, waits, states = 0, 0, 0

        async def poll(seconds: int) -> None:
            nonlocal since, waits, states
            for _ in range(seconds):
                await trio.sleep(1)
                path = f"/v1/tail?symbol=BTCUSDT&interval=1m&since={since}&limit=5"
                answer = await app.test_client().get(path)
                if answer.status_code == 503:
                    waits += 1
                    continue
                tail = msgspec.json.decode(await answer.get_data(as_text=False))
                since = tail["next"]
                states += len(tail["candles"])
                for each in tail["candles"]:
                    if each["is_closed"]:
                        assert closed.setdefault(each["open_time"], each) == each

        await poll(200)
        with simulation.exchange.offline():
            await poll(140)
        await poll(260)
        assert waits > 10
        stored = sorted(row for row in simulation.store.klines.values() if row.is_closed)
        assert [row.close for row in stored][-len(closed) :] == [
            each["close"] for _, each in sorted(closed.items())
        ]
        assert len(closed) > 9 + 4
        assert 300 < states < 600
        more = await told(app, "/v1/tail?symbol=BTCUSDT&interval=1m&limit=1500")
        opens = [each["open_time"] for each in more["candles"]]
        assert len(opens) == len({*opens}) > 600
        for wrong, status in [
            ("symbol=*&interval=1m", 400),
            ("symbol=BTCUSDT&interval=7m", 400),
            ("symbol=BTCUSDT&interval=1m&limit=0", 400),
        ]:
            await told(app, f"/v1/tail?{wrong}", status)


async def test_a_made_up_state_has_no_newer_ones(autojump_clock: MockClock) -> None:
    """Even if its time is in no calendar."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1, Interval.MO1], tick_ms=1_000
    ) as simulation:
        app = an_app(simulation)
        await trio.sleep(2 * MINUTE_S)
        for interval in ("1m", "1M"):
            path = f"/v1/tail?symbol=BTCUSDT&interval={interval}&since={2**62}"
            tail = await told(app, path)
            assert (tail["candles"], tail["next"]) == ([], 2**62)


async def test_what_programs_can_read_is_documented(autojump_clock: MockClock) -> None:
    """Each endpoint of our own, with all its formats."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        document = await told(an_app(simulation), "/openapi.json")
        assert {"/v1/candles", "/v1/last", "/v1/tail"} <= document["paths"].keys()
        formats = document["paths"]["/v1/candles"]["get"]["responses"]["200"]["content"]
        assert len(formats) == 4


async def test_a_page_that_lists_gaps_waits_for_none(autojump_clock: MockClock) -> None:
    """It shows what is there and what is missing, and gets the latter when it came."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=30, tick_ms=1_000
    ) as simulation:
        app = an_app(simulation)
        await trio.sleep(2 * MINUTE_S + 10)
        with simulation.exchange.offline():
            await trio.sleep(3 * MINUTE_S)
            began = trio.current_time()
            found = await told(app, "/v1/tail?symbol=BTCUSDT&interval=1m&gaps=listed&limit=10")
            assert trio.current_time() - began < 1
            missing = found["missing"]
            assert sum(each["candles"] for each in missing) == 3
            there = [each["open_time"] for each in found["candles"] if each["is_closed"]]
            assert len(there) == 7
            assert there[-1] < missing[0]["from"] < missing[-1]["to"]
            await told(app, "/v1/tail?symbol=BTCUSDT&interval=1m&limit=10", 503)
        await trio.sleep(MINUTE_S)
        found = await told(app, "/v1/tail?symbol=BTCUSDT&interval=1m&gaps=listed&limit=10")
        assert (found["missing"], found["absent"]) == ([], [])
        sources = {each["open_time"]: each["source"] for each in found["candles"]}
        assert sources[missing[0]["from"]] == sources[missing[-1]["to"]] == "rest"
        assert sources[max(sources)] == "stream"


async def test_a_page_scrolls_back_through_all_that_is_stored(autojump_clock: MockClock) -> None:
    """Page by page, each candle once, to the oldest."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=100, tick_ms=1_000
    ) as simulation:
        app = an_app(simulation)
        await trio.sleep(5 * MINUTE_S + 10)
        path = "/v1/tail?symbol=BTCUSDT&interval=1m&gaps=listed&limit=40"
        page = await told(app, path)
        opens: list[str] = []
        while page["candles"]:
            opens = [each["open_time"] for each in page["candles"]] + opens
            page = await told(app, f"{path}&before={opens[0].replace('+', '%2B')}")
        assert len(opens) == len({*opens}) == 100 + 6
        assert opens == sorted(opens)
        await told(app, f"{path}&before=yesterday", 400)
        await told(app, f"{path}&before=2026-02-01&since=7", 400)


async def test_who_asks_each_second_is_answered_past_the_app(autojump_clock: MockClock) -> None:
    """With what the app answers, but for the moment at which a candle closes."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=1_000
    ) as simulation:
        app, agent = an_app(simulation), simulation.agent
        ranges = RangeReader(venues=agent.venues, writer=agent.writer)
        at_once = TailAtOnce(ranges, Guard(is_local=True))

        def asked(query: str, host: str = "localhost") -> ReadyAnswer | None:
            target = f"/v1/tail?{query}"
            return at_once(h11.Request(method="GET", target=target, headers=[("Host", host)]))

        await trio.sleep(2 * MINUTE_S + 10)
        series = "symbol=BTCUSDT&interval=1m"
        assert asked(series) is None
        since, found = (await told(app, f"/v1/tail?{series}"))["next"], 0
        for _ in range(2 * int(MINUTE_S)):
            await trio.sleep(1)
            query = f"{series}&since={since}&gaps=listed"
            ready, answer = asked(query), await told(app, f"/v1/tail?{query}")
            if ready is not None:
                found += 1
                assert msgspec.json.decode(ready.body) == answer
            since = answer["next"]
        assert 100 < found < 120
        assert asked(f"{series}&since={since}", host="evil.example") is None
        for wrong in ("since=x", "sinc=7", "since=7&since=7", "since=7&before=7", "limit=0"):
            assert asked(f"{series}&{wrong}") is None, wrong
        assert asked("symbol=NONE&interval=1m&since=7") is None
