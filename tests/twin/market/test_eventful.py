from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.interval import MINUTE_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import COINM, SPOT, USDM, VenueRules
from tests.twin.samples import START_MS, Dial, dialling, events_until

BTC = "/market/stream?streams=btcusdt@kline_1m"
TWO = f"{BTC}/ethusdt@kline_1m"


@pytest.fixture
def eventful(market: RandomMarket) -> EventfulMarket:
    """Three symbols, of which the second is not listed yet."""
    return EventfulMarket(market, unlisted=["ETHUSDT"])


@pytest.fixture
async def twin(eventful: EventfulMarket) -> AsyncIterator[Exchange]:
    """An exchange on that market."""
    async with open_exchange(eventful, USDM, tick_ms=60_000) as exchange:
        yield exchange


async def rows(
    network: TwinNetwork, symbol: str, limit: int, *, from_minute: int = 0
) -> list[list[Any]]:
    """The 1m candles of a symbol from some minute on, over REST."""
    async with httpx2.AsyncClient(transport=network.http_transport()) as client:
        since_ms = START_MS + from_minute * MINUTE_MS
        query = {"symbol": symbol, "interval": "1m", "limit": str(limit)}
        query["startTime"] = str(since_ms)
        answer = await client.get("https://x/fapi/v1/klines", params=query)
    found: list[list[Any]] = answer.json()
    return found


async def listing(network: TwinNetwork, symbol: str) -> dict[str, Any]:
    """A symbol's entry in exchangeInfo."""
    async with httpx2.AsyncClient(transport=network.http_transport()) as client:
        answer = await client.get("https://x/fapi/v1/exchangeInfo")
    found: dict[str, Any] = next(e for e in answer.json()["symbols"] if e["symbol"] == symbol)
    return found


def minutes(found: list[list[Any]]) -> list[int]:
    """Their minutes, counted from the market's start."""
    return [(row[0] - START_MS) // MINUTE_MS for row in found]


async def test_a_halt_leaves_a_gap(
    eventful: EventfulMarket, dial: Dial, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """The minutes in which it begins and ends are complete; there are none in between."""
    socket = await dial(BTC)
    await trio.sleep(90)
    with eventful.halting(["BTCUSDT"]):
        await trio.sleep(180)
        assert minutes(await rows(network, "BTCUSDT", 5)) == [0, 1]
    await trio.sleep(120)
    assert minutes(await rows(network, "BTCUSDT", 7)) == [0, 1, 5, 6]
    events = await events_until(socket, 1)
    assert [(e["k"]["t"] - START_MS) // MINUTE_MS for e in events if e["k"]["x"]] == [-1, 0, 1, 5]
    assert eventful.injected == {"halting": 1}


async def test_a_flat_halt_has_empty_candles(
    eventful: EventfulMarket, dial: Dial, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """They have the last price and no trades, and close like others."""
    socket = await dial(BTC)
    with eventful.halting(["BTCUSDT"], flat=True):
        await trio.sleep(180)
    events = await events_until(socket, 100)
    found = await rows(network, "BTCUSDT", 5)
    assert minutes(found) == [0, 1, 2, 3, 4]
    for row in found[1:4]:
        assert row[1:5] == [found[0][4]] * 4
        assert (float(row[5]), row[8]) == (0, 0)
    assert found[4][8] > 0
    closed = [e["k"] for e in events if e["k"]["x"]]
    assert [(k["t"] - START_MS) // MINUTE_MS for k in closed if not k["n"]] == [1, 2, 3]


async def test_a_halt_within_a_minute_has_no_effect(
    eventful: EventfulMarket, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """Events take effect at the next full minute."""
    await trio.sleep(10)
    with eventful.halting(["BTCUSDT", "SOLUSDT"]):
        await trio.sleep(40)
    await trio.sleep(200)
    assert minutes(await rows(network, "BTCUSDT", 5)) == [0, 1, 2, 3, 4]


async def test_a_halt_may_change_the_status(
    eventful: EventfulMarket, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """From the full minute at which it begins to the one at which it ends."""
    statuses = []
    with eventful.halting(["BTCUSDT"], status="BREAK"):
        statuses.append((await listing(network, "BTCUSDT"))["status"])
        await trio.sleep(90)
        statuses.append((await listing(network, "BTCUSDT"))["status"])
    await trio.sleep(60)
    statuses.append((await listing(network, "BTCUSDT"))["status"])
    assert statuses == ["TRADING", "BREAK", "TRADING"]


async def test_overlapping_halts(
    eventful: EventfulMarket, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """A halt without candles wins over a flat one; the price is that before the first."""
    with eventful.halting(["BTCUSDT"], flat=True):
        await trio.sleep(60)
        with eventful.halting(["BTCUSDT"]):
            await trio.sleep(60)
        await trio.sleep(120)
    found = await rows(network, "BTCUSDT", 5)
    assert minutes(found) == [0, 1, 3, 4]
    assert {row[4] for row in found} == {found[0][4]}


async def test_a_delisted_symbol_keeps_its_history(
    eventful: EventfulMarket, dial: Dial, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """Its status changes with the next minute, and its stream is silent."""
    socket = await dial(BTC)
    await trio.sleep(90)
    eventful.delist("BTCUSDT")
    assert (await listing(network, "BTCUSDT"))["status"] == "TRADING"
    await events_until(socket, 60)
    entry = await listing(network, "BTCUSDT")
    assert (entry["status"], entry["deliveryDate"]) == ("SETTLING", START_MS + 2 * MINUTE_MS)
    assert await events_until(socket, 600) == []
    assert minutes(await rows(network, "BTCUSDT", 14, from_minute=-1)) == [-1, 0, 1]
    with pytest.raises(ValueError, match="does not trade already"):
        eventful.delist("BTCUSDT")


async def test_a_symbol_is_listed(
    twin: Exchange,
    eventful: EventfulMarket,
    dial: Dial,
    network: TwinNetwork,
    autojump_clock: MockClock,
) -> None:
    """Before, it has no candles and is announced; afterwards it is like any other."""
    socket = await dial(TWO)
    assert {e["s"] for e in await events_until(socket, 90)} == {"BTCUSDT"}
    assert await rows(network, "ETHUSDT", 3) == []
    entry = await listing(network, "ETHUSDT")
    assert entry["status"] == "PENDING_TRADING"
    assert entry["onboardDate"] > START_MS
    eventful.list("ETHUSDT")
    events = await events_until(socket, 91)
    assert [(e["k"]["t"] - START_MS) // MINUTE_MS for e in events if e["s"] == "ETHUSDT"] == [2, 2]
    entry = await listing(network, "ETHUSDT")
    assert (entry["status"], entry["onboardDate"]) == ("TRADING", START_MS + 2 * MINUTE_MS)
    assert minutes(await rows(network, "ETHUSDT", 5)) == [2, 3]
    assert twin.faults.injected == {"list": 1}
    with pytest.raises(ValueError, match="trades already"):
        eventful.list("ETHUSDT")


def test_unknown_symbols_are_an_error(market: RandomMarket, eventful: EventfulMarket) -> None:
    """In every method."""
    with pytest.raises(ValueError, match="NOSUCH is not in this market"):
        EventfulMarket(market, unlisted=["NOSUCH"])
    with pytest.raises(ValueError, match="NOSUCH"), eventful.halting(["NOSUCH"]):
        pass
    with pytest.raises(ValueError, match="NOSUCH"):
        eventful.delist("NOSUCH")


@pytest.mark.parametrize(
    ("venue", "pending", "gone"),
    [
        (USDM, "PENDING_TRADING", "SETTLING"),
        (COINM, "PENDING_TRADING", "SETTLING"),
        (SPOT, "BREAK", "BREAK"),
    ],
)
def test_each_venue_has_its_own_statuses(venue: VenueRules, pending: str, gone: str) -> None:
    """For symbols not listed yet, and for delisted ones."""
    market = RandomMarket(symbols=3, seed=7, start_ms=START_MS, venue_name=venue.name)
    first, second, third = market.listings[:3]
    eventful = EventfulMarket(market, unlisted=[first.symbol])
    eventful.delist(second.symbol)
    now_ms = START_MS + MINUTE_MS
    listed = [eventful.as_listed(venue, each, now_ms) for each in (first, second, third)]
    assert [each and each.status for each in listed] == [pending, gone, "TRADING"]


async def test_the_past_never_changes(
    eventful: EventfulMarket, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Candles sent while events struck equal those of a new aggregator."""
    async with open_exchange(eventful, USDM, tick_ms=60_000) as exchange:
        dial = dialling(TwinNetwork(exchange, nursery), nursery)
        socket = await dial("/market/stream?streams=btcusdt@kline_5m/solusdt@kline_5m")
        events = []
        for _ in range(10):
            with eventful.halting(["BTCUSDT"]), eventful.halting(["SOLUSDT"], flat=True):
                events += await events_until(socket, 100)
            events += await events_until(socket, 200)
        nursery.cancel_scope.cancel()
    aggregator = Aggregator(eventful)
    closed = [event["k"] for event in events if event["k"]["x"]]
    assert len(closed) > 15
    for candle in closed:
        drawn = aggregator.whole(candle["s"], TwinInterval.M5, candle["t"])
        assert drawn is not None
        assert (drawn.trades, drawn.first_trade) == (candle["n"], candle["f"])


def test_a_halt_of_the_past_leaves_a_gap_or_flat_candles(eventful: EventfulMarket) -> None:
    """It must be over."""
    since_ms, until_ms = START_MS - 60 * MINUTE_MS, START_MS - 50 * MINUTE_MS
    eventful.halt_past("BTCUSDT", since_ms, until_ms)
    eventful.halt_past("SOLUSDT", since_ms, until_ms, flat=True)
    opens = range(since_ms - MINUTE_MS, until_ms + MINUTE_MS, MINUTE_MS)
    gap = [eventful.minute("BTCUSDT", open_ms) is None for open_ms in opens]
    assert gap == [False, *[True] * 10, False]
    flat = [candle.trades for each in opens if (candle := eventful.minute("SOLUSDT", each))]
    assert flat[1:-1] == [0] * 10
    assert eventful.halts_throughout("BTCUSDT", since_ms, until_ms)
    assert not eventful.halts_throughout("BTCUSDT", since_ms, until_ms + MINUTE_MS)
    assert not eventful.halts_throughout("SOLUSDT", since_ms, until_ms)
    with pytest.raises(ValueError, match="ends before now"):
        eventful.halt_past("BTCUSDT", since_ms, START_MS + 1)


async def test_a_life_ends_and_begins_with_the_listing(
    twin: Exchange, eventful: EventfulMarket, autojump_clock: MockClock
) -> None:
    """What is not listed yet has none; what is delisted has had one."""
    btc, eth = eventful.listings[:2]
    assert eventful.life_ms(btc) == (btc.onboard_ms, btc.delivery_ms)
    since_ms, until_ms = eventful.life_ms(eth)
    assert since_ms == until_ms
    eventful.list("ETHUSDT")
    eventful.delist("BTCUSDT")
    assert eventful.life_ms(eth) == (START_MS + MINUTE_MS, eth.delivery_ms)
    assert eventful.life_ms(btc) == (btc.onboard_ms, START_MS + MINUTE_MS)
