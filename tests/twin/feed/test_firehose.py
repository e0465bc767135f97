from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio_websocket
from click.testing import CliRunner
from trio.testing import MockClock

from klineagent.cli.group import commands
from klineagent.core.errors import ConfigError
from klineagent.exchange.wire import StreamedCandle, decode_frame
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.feed.firehose import MAX_RATE, parse_rate
from klineagent.twin.interval import MINUTE_MS, SECOND_MS, TwinInterval
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.market import Market
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.server import serve_exchange
from klineagent.twin.venues import USDM
from tests.twin.samples import START_MS, Dial, dialling, events_until, texts_until

pytestmark = pytest.mark.slow

# A Monday, the 1st of a month, and a multiple of three days: every candle closes.
EVERY_CLOSE_MS = 1_801_440_000_000
INTERVALS = [interval for interval in TwinInterval if interval in USDM.intervals]
SHORT_S = 0.001
"""Enough time for sent frames to arrive, too little for the next ones."""
BTC_MINUTES, ETH_MINUTES, BTC_HOURS = "btcusdt@kline_1m", "ethusdt@kline_1m", "btcusdt@kline_1h"


@asynccontextmanager
async def open_firehose(
    rate: float, market: Market, *, speed: float = 1.0
) -> AsyncIterator[tuple[Exchange, Dial]]:
    """An exchange with a fixed rate, and a network to it."""
    async with (
        open_exchange(market, USDM, rate=rate, speed=speed) as exchange,
        trio.open_nursery() as nursery,
    ):
        yield exchange, dialling(TwinNetwork(exchange, nursery), nursery)
        nursery.cancel_scope.cancel(reason="the test is over")


def starting_at(start_ms: int, symbols: int = 3) -> RandomMarket:
    """A market with an hour of history."""
    return RandomMarket(symbols=symbols, seed=7, start_ms=start_ms, history_ms=60 * MINUTE_MS)


def combined(*streams: str) -> str:
    """The path of a websocket subscribed to `streams`."""
    return f"/market/stream?streams={'/'.join(streams)}"


async def test_events_are_the_exchanges_own(autojump_clock: MockClock) -> None:
    """They have the keys of an ordinary twin's events, in the same order."""
    async with open_exchange(starting_at(START_MS), USDM) as ordinary, trio.open_nursery() as links:
        socket = await dialling(TwinNetwork(ordinary, links), links)(combined(BTC_MINUTES))
        usual = json.loads(await socket.get_message())
        links.cancel_scope.cancel()
    async with open_firehose(100, starting_at(START_MS)) as (_, dial):
        texts = await texts_until(await dial(combined(BTC_MINUTES)), 1)
    for text in texts:
        message = decode_frame(text)
        assert isinstance(message, StreamedCandle)
        assert message.stream == BTC_MINUTES
        assert message.data.as_kline("usdm").key == ("usdm", "BTCUSDT", "1m", START_MS)
    frame = json.loads(texts[0])
    assert list(frame["data"]) == list(usual["data"])
    assert list(frame["data"]["k"]) == list(usual["data"]["k"])


async def test_a_raw_socket_gets_bare_events(autojump_clock: MockClock) -> None:
    """It gets combined ones after it requested the envelope."""
    async with open_firehose(100, starting_at(START_MS)) as (_, dial):
        socket = await dial(f"/market/ws/{BTC_MINUTES}")
        assert json.loads(await socket.get_message())["e"] == "kline"
        await socket.send_message('{"method":"SET_PROPERTY","params":["combined",true],"id":1}')
        texts = await texts_until(socket, 1)
        assert json.loads(texts[-1])["stream"] == BTC_MINUTES


async def test_the_rate_is_held_and_spread(autojump_clock: MockClock) -> None:
    """Every stream gets an equal share, whatever connection it is on."""
    async with open_firehose(1_500, starting_at(START_MS)) as (_, dial):
        pair = await dial(combined(BTC_MINUTES, BTC_HOURS))
        single = await dial(combined(ETH_MINUTES))
        await trio.sleep(10)
        events = await events_until(pair, SHORT_S) + await events_until(single, SHORT_S)
    counts = Counter((event["s"], event["k"]["i"]) for event in events)
    assert len(counts) == 3
    assert all(count == pytest.approx(5_000, abs=10) for count in counts.values())


async def test_a_low_rate_reaches_everyone(autojump_clock: MockClock) -> None:
    """Fractions of an update are carried over."""
    async with open_firehose(2, starting_at(START_MS)) as (_, dial):
        sockets = [await dial(combined(name)) for name in (BTC_MINUTES, ETH_MINUTES)]
        await trio.sleep(50)
        counts = [len(await events_until(socket, SHORT_S)) for socket in sockets]
    assert all(count == pytest.approx(50, abs=1) for count in counts)


async def test_events_are_of_the_present(autojump_clock: MockClock) -> None:
    """Their time is the exchange's, their candle the current one, over two full minutes."""
    market = starting_at(START_MS + 50 * SECOND_MS)
    async with open_firehose(20, market) as (exchange, dial):
        socket = await dial(combined(BTC_MINUTES, BTC_HOURS))
        while (now_ms := exchange.clock.now_ms()) < START_MS + 130 * SECOND_MS:
            event = json.loads(await socket.get_message())["data"]
            assert now_ms <= event["E"] <= exchange.clock.now_ms()
            assert event["k"]["t"] <= event["E"]
            assert event["k"]["x"] is (event["k"]["T"] < event["E"])


async def test_closings_are_true_and_come_once(autojump_clock: MockClock) -> None:
    """Each equals the REST row, at once, and precedes all events of the next candle."""
    market = starting_at(START_MS + 30 * SECOND_MS)
    async with open_firehose(20, market) as (exchange, dial):
        socket = await dial(combined(BTC_MINUTES, BTC_HOURS, "solusdt@kline_3m"))
        events = await events_until(socket, 200)
        rows = {
            (symbol, interval): await rest_rows(exchange, symbol, interval)
            for symbol, interval in (("BTCUSDT", "1m"), ("SOLUSDT", "3m"))
        }
    closings = [event for event in events if event["k"]["x"]]
    assert [(event["s"], event["k"]["i"]) for event in closings] == [
        ("BTCUSDT", "1m"),
        ("BTCUSDT", "1m"),
        ("BTCUSDT", "1m"),
        ("SOLUSDT", "3m"),
    ]
    for event in closings:
        k = event["k"]
        assert event["E"] - k["T"] <= 20
        # fmt: off
        assert rows[event["s"], k["i"]][k["t"]] == [
            k["t"], k["o"], k["h"], k["l"], k["c"], k["v"],
            k["T"], k["q"], k["n"], k["V"], k["Q"], "0",
        ]
        # fmt: on
    minutes = [event["k"]["t"] for event in events if event["k"]["i"] == "1m"]
    assert minutes == sorted(minutes)


async def rest_rows(exchange: Exchange, symbol: str, interval: str) -> dict[int, list[Any]]:
    """The rows of a klines answer by their open times."""
    answer = await exchange.answer(
        "GET", "/fapi/v1/klines", {"symbol": symbol, "interval": interval}
    )
    assert answer is not None
    return {row[0]: row for row in json.loads(answer.body)}


@pytest.mark.parametrize("early_s", [1, 30])
async def test_every_series_can_close_at_one_instant(
    autojump_clock: MockClock, early_s: int
) -> None:
    """At rate 0 only closing events come, encoded ahead or, for late subscriptions, at once."""
    names = [f"{symbol}usdt@kline_{each}" for symbol in ("btc", "eth") for each in INTERVALS]
    async with open_firehose(0, starting_at(EVERY_CLOSE_MS - early_s * SECOND_MS)) as (_, dial):
        socket = await dial(combined(*names))
        assert await events_until(socket, early_s - 0.001) == []
        messages = [json.loads(text) for text in await texts_until(socket, 0.02)]
    assert [message["stream"] for message in messages] == names
    assert all(message["data"]["k"]["x"] for message in messages)
    assert {message["data"]["k"]["T"] for message in messages} == {EVERY_CLOSE_MS - 1}


async def test_only_subscribed_streams_are_delivered(autojump_clock: MockClock) -> None:
    """From SUBSCRIBE to UNSUBSCRIBE; unknown streams get no share of the rate."""
    async with open_firehose(1_000, starting_at(START_MS)) as (_, dial):
        await dial("/public/stream?streams=" + ETH_MINUTES)
        socket = await dial(combined(BTC_MINUTES, "nosuch@kline_1m"))
        events = await events_until(socket, 1)
        assert {event["s"] for event in events} == {"BTCUSDT"}
        assert len(events) == pytest.approx(1_000, abs=15)
        await ask(socket, "SUBSCRIBE", ETH_MINUTES)
        assert {event["s"] for event in await events_until(socket, 1)} == {"BTCUSDT", "ETHUSDT"}
        await ask(socket, "UNSUBSCRIBE", BTC_MINUTES, ETH_MINUTES)
        assert await events_until(socket, 90) == []


async def ask(socket: trio_websocket.WebSocketConnection, method: str, *names: str) -> None:
    """Send a request, and read until it is acknowledged."""
    await socket.send_message(json.dumps({"method": method, "params": names, "id": 1}))
    while "result" not in await socket.get_message():
        pass


async def test_a_halted_symbol_is_silent(autojump_clock: MockClock) -> None:
    """Others continue, and it is back when it trades again."""
    market = EventfulMarket(starting_at(START_MS))
    async with open_firehose(20, market) as (_, dial):
        socket = await dial(combined(BTC_MINUTES, ETH_MINUTES))
        with market.halting(["BTCUSDT"]):
            await events_until(socket, 60.5)
            halted = await events_until(socket, 60)
        await events_until(socket, 60)
        assert {event["s"] for event in halted} == {"ETHUSDT"}
        assert {event["s"] for event in await events_until(socket, 1)} == {"BTCUSDT", "ETHUSDT"}


async def test_the_end_of_empty_candles_may_be_quiet(autojump_clock: MockClock) -> None:
    """As on an ordinary exchange."""
    market = EventfulMarket(starting_at(START_MS))
    async with open_firehose(0, market) as (exchange, dial):
        socket = await dial(combined(BTC_MINUTES, ETH_MINUTES))
        with market.halting(["BTCUSDT"], flat=True), exchange.faults.quiet_empties():
            events = await events_until(socket, 121)
    assert [event["s"] for event in events] == ["BTCUSDT", "ETHUSDT", "ETHUSDT"]


async def test_an_interruption_costs_updates_but_no_closing(mock_clock: MockClock) -> None:
    """After three minutes without running a twin sends one second's updates and all closings."""
    async with open_firehose(100, starting_at(START_MS)) as (_, dial):
        socket = await dial(combined(BTC_MINUTES))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(185)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.autojump_threshold = 0
        events = await events_until(socket, SHORT_S)
    closed = [event["k"]["t"] for event in events if event["k"]["x"]]
    assert closed == [START_MS + minute * MINUTE_MS for minute in range(3)]
    assert len(events) - len(closed) == 100


async def test_at_the_maximum_rate_clients_get_all_they_read(
    nursery: trio.Nursery, market: RandomMarket
) -> None:
    """A socket that is not read delays no other, and is not dropped; closings come, too."""
    async with open_exchange(market, USDM, rate=MAX_RATE, speed=60) as exchange:
        host, port = await nursery.start(serve_exchange, exchange, "127.0.0.1", 0)
        url = f"ws://{host}:{port}/market/stream"
        async with (
            trio_websocket.open_websocket_url(f"{url}?streams={ETH_MINUTES}") as idle,
            trio_websocket.open_websocket_url(url) as reading,
        ):
            await ask(reading, "SUBSCRIBE", BTC_MINUTES, BTC_HOURS)
            counts: Counter[str] = Counter()
            while not counts["closed"]:
                message = json.loads(await reading.get_message())
                counts[message["stream"]] += 1
                counts["closed"] += message["data"]["k"]["x"]
            assert counts[BTC_MINUTES] == pytest.approx(counts[BTC_HOURS], abs=1)
            assert json.loads(await idle.get_message())["stream"] == ETH_MINUTES
        nursery.cancel_scope.cancel()


async def test_without_streams_the_maximum_rate_sends_nothing(autojump_clock: MockClock) -> None:
    """The twin does not spin, either."""
    async with open_firehose(MAX_RATE, starting_at(START_MS)) as (_, to_firehose):
        socket = await to_firehose("/market/stream")
        assert await events_until(socket, 100) == []


async def test_drawing_computes_all_open_candles(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """After it the first event of a month computes only the current minute."""
    market = starting_at(START_MS)
    async with open_firehose(10, market) as (exchange, dial):
        exchange.draw()
        asked = set()
        minute = RandomMarket.minute

        def watched(self: RandomMarket, symbol: str, open_ms: int) -> object:
            asked.add(open_ms)
            return minute(self, symbol, open_ms)

        monkeypatch.setattr(RandomMarket, "minute", watched)
        await events_until(await dial(combined("btcusdt@kline_1M")), 1)
    assert asked == {START_MS}


@pytest.mark.parametrize(("text", "rate"), [("36000", 36_000), ("0", 0), ("max", MAX_RATE)])
def test_rates_are_parsed(text: str, rate: float) -> None:
    """Numbers, and `max`."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "fast", ""])
def test_an_invalid_rate_is_one_line(text: str) -> None:
    """The message describes valid ones."""
    with pytest.raises(ConfigError, match=r"--rate: .* neither a number from 0 on nor max"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rate", "fast"], "--rate"),
        (["--start", "2027-01-31T23:59:30", "--archive", "tests"], "--start"),
        (["--tls", "README.md"], "--tls: .*README.md"),
    ],
)
def test_the_command_rejects_options_that_conflict(options: list[str], complaint: str) -> None:
    """It does so before it starts anything."""
    result = CliRunner().invoke(commands, ["simulate", *options])
    assert isinstance(result.exception, ConfigError)
    assert re.match(complaint, str(result.exception))
