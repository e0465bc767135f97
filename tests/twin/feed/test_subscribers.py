from __future__ import annotations

import json

import pytest
from trio.testing import MockClock

from klineagent.twin.exchange import Exchange
from tests.twin.samples import Dial, events_until

NAMES = ["ethusdt@kline_1m", "btcusdt@kline_5m", "nosuch@kline_1m", "btcusdt@kline_1m"]


def wanted(exchange: Exchange) -> dict[str, list[str]]:
    """Subscribed streams by symbol."""
    groups = exchange._subscribers.wanted()
    return {symbol: [series.stream for series in group] for symbol, group in groups.items()}


async def test_streams_are_ordered_by_name(twin: Exchange, dial: Dial) -> None:
    """The order of subscriptions and connections does not matter."""
    for name in NAMES:
        await dial(f"/market/ws/{name}")
    assert list(wanted(twin).items()) == [
        ("BTCUSDT", ["btcusdt@kline_1m", "btcusdt@kline_5m"]),
        ("ETHUSDT", ["ethusdt@kline_1m"]),
    ]


async def test_the_index_follows_requests_and_connections(twin: Exchange, dial: Dial) -> None:
    """Subscribing, unsubscribing and disconnecting take effect at once."""
    socket = await dial("/market/ws")
    for method, expected in [
        ("SUBSCRIBE", ["BTCUSDT"]),
        ("UNSUBSCRIBE", []),
        ("SUBSCRIBE", ["BTCUSDT"]),
    ]:
        request = {"method": method, "params": ["btcusdt@kline_1m"], "id": 1}
        await socket.send_message(json.dumps(request))
        await socket.get_message()
        assert list(wanted(twin)) == expected
    await socket.aclose()
    assert wanted(twin) == {}


@pytest.mark.parametrize("path", ["/public/ws/btcusdt@kline_1m", "/ws/btcusdt@kline_1m"])
async def test_routes_without_klines_have_no_subscribers(
    twin: Exchange, dial: Dial, path: str
) -> None:
    """A subscription there is only acknowledged."""
    await dial(path)
    assert wanted(twin) == {}


async def test_each_client_gets_its_own_streams(dial: Dial, autojump_clock: MockClock) -> None:
    """Two clients share one stream, and one of them has another."""
    one = await dial("/market/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m")
    other = await dial("/market/stream?streams=btcusdt@kline_1m")
    assert {event["s"] for event in await events_until(other, 100)} == {"BTCUSDT"}
    assert {event["s"] for event in await events_until(one, 1)} == {"BTCUSDT", "ETHUSDT"}
