from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import httpx2
import pytest
import structlog
import trio
from trio.testing import MockClock

from klineagent.core.errors import ConfigError
from klineagent.core.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from klineagent.twin.exchange import Exchange, open_exchange, open_market
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import SPOT, USDM
from tests.places import ARCHIVE
from tests.twin.samples import START_MS, Dial, Ended, dialling, events_until


async def test_candles_grow_and_close_once(
    dial: Dial, market: RandomMarket, autojump_clock: MockClock
) -> None:
    """Each candle has one forming and one closing event, in order, with the market's values."""
    socket = await dial("/market/stream?streams=btcusdt@kline_1m/btcusdt@kline_5m")
    events = await events_until(socket, 600.5)
    of_1m = [event for event in events if event["k"]["i"] == "1m"]
    closings = [event for event in of_1m if event["k"]["x"] and event["k"]["t"] >= START_MS]
    assert [event["k"]["t"] for event in closings] == [
        START_MS + minute * MINUTE_MS for minute in range(10)
    ]
    for event in closings:
        candle = market.minute("BTCUSDT", event["k"]["t"])
        assert candle is not None
        assert event["k"]["n"] == candle.trades
        assert 2 <= event["E"] - event["k"]["T"] <= 300
    assert [event["k"]["x"] for event in of_1m] == [True, *[False, True] * 10]
    assert [event["E"] for event in events] == sorted(event["E"] for event in events)
    five = [e["k"]["t"] for e in events if e["k"]["i"] == "5m" and e["k"]["x"]]
    assert five == [START_MS - 5 * MINUTE_MS, START_MS, START_MS + 5 * MINUTE_MS]


async def test_quiet_minutes_have_events(dial: Dial, autojump_clock: MockClock) -> None:
    """A candle without trades is flat, has ids of -1, and closes like the others."""
    socket = await dial("/market/stream?streams=solusdt@kline_1m")
    events = await events_until(socket, 3_600)
    empty = [event["k"] for event in events if not event["k"]["n"]]
    assert any(candle["x"] for candle in empty)
    assert any(not candle["x"] for candle in empty)
    for candle in empty:
        assert (candle["f"], candle["L"], float(candle["v"])) == (-1, -1, 0)
        assert len({candle[price] for price in "ohlc"}) == 1


async def test_empty_candles_may_close_silently(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """The switch suppresses the closing events of candles without trades and no others."""
    twin.empty_candles_close = False
    socket = await dial("/market/stream?streams=solusdt@kline_1m")
    closed = [event["k"] for event in await events_until(socket, 3_600) if event["k"]["x"]]
    assert closed
    assert all(candle["n"] for candle in closed)


@pytest.mark.parametrize(
    "path",
    [
        "/ws/btcusdt@kline_1m",
        "/stream?streams=btcusdt@kline_1m",
        "/public/stream?streams=btcusdt@kline_1m",
        "/market/stream?streams=BTCUSDT@kline_1m",
        "/market/stream?streams=omgusdt@kline_1m",
        "/market/stream?streams=btcusdt@kline_1s",
        "/market/stream?streams=btcusdt@kline_1H",
        "/market/stream?streams=btcusdt@aggTrade",
    ],
)
async def test_wrong_routes_and_names_are_silent(
    dial: Dial, path: str, autojump_clock: MockClock
) -> None:
    """They are listed as subscribed, and never deliver."""
    socket = await dial(path)
    await socket.send_message('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    assert len(json.loads(await socket.get_message())["result"]) == 1
    assert await events_until(socket, 300) == []


async def test_both_payloads_flow_and_can_be_switched(
    dial: Dial, autojump_clock: MockClock
) -> None:
    """A raw socket gets bare events until it requests the envelope."""
    socket = await dial("/market/ws")
    await socket.send_message('{"method":"SUBSCRIBE","params":["ethusdt@kline_1h"],"id":1}')
    assert json.loads(await socket.get_message()) == {"result": None, "id": 1}
    await trio.sleep(1)
    first = json.loads(await socket.get_message())
    assert first["e"] == "kline"
    await socket.send_message('{"method":"SET_PROPERTY","params":["combined",true],"id":2}')
    assert json.loads(await socket.get_message())["id"] == 2
    assert json.loads(await socket.get_message())["stream"] == "ethusdt@kline_1h"


async def test_unsubscribed_streams_stop(dial: Dial, autojump_clock: MockClock) -> None:
    """No event of the stream comes after the acknowledgement."""
    socket = await dial("/market/stream?streams=btcusdt@kline_1m")
    assert await events_until(socket, 100)
    await socket.send_message('{"method":"UNSUBSCRIBE","params":["btcusdt@kline_1m"],"id":9}')
    while json.loads(await socket.get_message()).get("id") != 9:
        pass
    assert await events_until(socket, 200) == []


@pytest.mark.slow
@pytest.mark.skipif(not ARCHIVE.exists(), reason=f"no archive at {ARCHIVE}")
async def test_a_replay_closes_with_the_archives_rows(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Hours of closing events equal the CSV rows they came from, digit by digit; REST agrees."""
    market = open_market(archive=ARCHIVE, symbols=0, seed=0, venue_name="usdm", start_ms=0)
    async with open_exchange(market, USDM, tick_ms=60_000) as exchange:
        network = TwinNetwork(exchange, nursery)
        dial = dialling(network, nursery)
        socket = await dial("/market/stream?streams=dotusdt@kline_1m")
        events = await events_until(socket, 6 * 3_600 + 1)
        closed = [event["k"] for event in events if event["k"]["x"]]
        async with httpx2.AsyncClient(transport=network.http_transport()) as client:
            response = await client.get(
                "https://exchange/fapi/v1/klines",
                params={
                    "symbol": "DOTUSDT",
                    "interval": "1m",
                    "startTime": market.start_ms,
                    "limit": len(closed),
                },
            )
        nursery.cancel_scope.cancel()
    rows = _csv_rows(ARCHIVE, "DOTUSDT", "2026-02-01")[: len(closed)]
    assert len(closed) == 360
    fields = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")
    assert [[str(candle[name]) for name in fields] for candle in closed] == rows
    assert [[str(value) for value in row[:11]] for row in response.json()] == rows


def _csv_rows(archive: Path, symbol: str, date: str) -> list[list[str]]:
    """Rows of one real file, without header and last column, with all decimals they may have."""
    name = f"{symbol}-1m-{date}"
    path = archive / f"data/futures/um/daily/klines/{symbol}/1m/{name}.zip"
    with zipfile.ZipFile(path) as file:
        _, *rows = csv.reader(io.StringIO(file.read(f"{name}.csv").decode()))
    return [row[:11] for row in rows]


async def test_a_market_that_ended_is_quiet(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The last candle closes, the clock continues, and the end is logged once."""
    market = Ended(symbols=1, seed=1, start_ms=START_MS, minutes=3)
    with structlog.testing.capture_logs() as logs:
        async with open_exchange(market, USDM, tick_ms=60_000) as exchange:
            network = TwinNetwork(exchange, nursery)
            dial = dialling(network, nursery)
            socket = await dial("/market/stream?streams=btcusdt@kline_1m/btcusdt@kline_1h")
            events = await events_until(socket, 2 * 3_600)
            assert exchange.clock.now_ms() == START_MS + 2 * HOUR_MS
            nursery.cancel_scope.cancel()
    last = events[-1]["k"]
    assert (last["t"], last["x"]) == (START_MS + 2 * MINUTE_MS, True)
    assert [entry["event"] for entry in logs] == ["market ended"]


@pytest.mark.slow
async def test_a_day_at_sixty_second_ticks_has_every_candle(
    dial: Dial, autojump_clock: MockClock
) -> None:
    """There are 1440 closings of 1m, 24 of 1h, one of 1d; then the connection is too old."""
    socket = await dial("/market/stream?streams=btcusdt@kline_1m/btcusdt@kline_1h/btcusdt@kline_1d")
    events = await events_until(socket, DAY_MS / 1_000 - 1)
    closed = [event["k"]["i"] for event in events if event["k"]["x"]]
    counts = {i.value: closed.count(i.value) for i in (Interval.M1, Interval.H1, Interval.D1)}
    # What closed at the start itself is there, and what closes with the day is yet to come.
    assert counts == {"1m": 1_440, "1h": 24, "1d": 1}


def test_a_market_is_opened_by_parameters(tmp_path: Path) -> None:
    """It is made up unless an archive is given; errors name the reason."""
    market = open_market(archive=None, symbols=2, seed=1, venue_name="spot", start_ms=START_MS)
    assert [each.symbol for each in market.listings] == ["BTCUSDT", "ETHUSDT", "币安人生USDT"]
    with pytest.raises(ConfigError, match="no 1m klines"):
        open_market(archive=tmp_path, symbols=2, seed=1, venue_name="spot", start_ms=0)
    with pytest.raises(ConfigError, match="no venue"):
        open_market(archive=None, symbols=2, seed=1, venue_name="forex", start_ms=0)


@pytest.mark.parametrize("rate", [None, 100])
async def test_spot_closes_a_candle_each_second(
    nursery: trio.Nursery, autojump_clock: MockClock, rate: float | None
) -> None:
    """From the second in which the stream was subscribed on, with the values that REST has."""
    market = RandomMarket(symbols=1, seed=7, start_ms=START_MS, venue_name="spot")
    async with open_exchange(market, SPOT, rate=rate) as exchange:
        socket = await dialling(TwinNetwork(exchange, nursery), nursery)("/stream")
        await trio.sleep(90.5)
        request = {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1s"], "id": 1}
        await socket.send_message(json.dumps(request))
        events = [event["k"] for event in await events_until(socket, 100)]
        assert [(each["t"], each["x"]) for each in events] == [
            (START_MS + second * 1_000, True) for second in range(90, 190)
        ]
        query = {"symbol": "BTCUSDT", "interval": "1s", "startTime": str(START_MS + 90_000)}
        answer = await exchange.answer("GET", "/api/v3/klines", query)
        assert answer is not None
        # The last row is the second that has just begun.
        rows = json.loads(answer.body)[:-1]
        names = "tohlcvTqnVQ"
        assert [[each[name] for name in names] for each in events] == [row[:-1] for row in rows]
        request |= {"method": "UNSUBSCRIBE"}
        await socket.send_message(json.dumps(request))
        assert await events_until(socket, 10) == []


async def test_spot_announces_its_shutdown(nursery: trio.Nursery) -> None:
    """Raw and combined connections get the notice; futures do not send it."""
    market = RandomMarket(symbols=1, seed=7, start_ms=START_MS, venue_name="spot")
    async with open_exchange(market, SPOT) as exchange:
        dial = dialling(TwinNetwork(exchange, nursery), nursery)
        raw = await dial("/ws/nosuch@kline_1m")
        combined = await dial("/stream?streams=nosuch@kline_1m")
        exchange.announce_shutdown()
        notice = json.loads(await raw.get_message())
        assert notice["e"] == "serverShutdown"
        assert notice["E"] >= START_MS
        assert json.loads(await combined.get_message()) == {
            "stream": "!serverShutdown",
            "data": notice,
        }


async def test_futures_do_not_announce_their_shutdown(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Their documentation has no such notice."""
    socket = await dial("/market/stream?streams=nosuch@kline_1m")
    twin.announce_shutdown()
    assert await events_until(socket, 60) == []
