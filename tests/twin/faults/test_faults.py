"""Each fault as a client sees it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from klineagent.core.errors import ExchangeUnreachable
from klineagent.core.interval import MINUTE_MS
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import USDM
from tests.places import ROOT
from tests.twin.samples import START_MS, Dial, Ended, dialling, events_until, texts_until

BTC = "/market/stream?streams=btcusdt@kline_1m"
TWO = f"{BTC}/ethusdt@kline_1m"
THREE = f"{TWO}/solusdt@kline_1m"


def closings(events: list[dict[str, Any]]) -> list[int]:
    """The minutes that closed, in the order of their closing events."""
    return [(e["k"]["t"] - START_MS) // MINUTE_MS for e in events if e["k"]["x"]]


async def test_lost_closings_never_come(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """In the block candles have only forming updates; afterwards they close, too."""
    socket = await dial(BTC)
    with twin.faults.losing_closings():
        events = await events_until(socket, 599)
        assert closings(events) == []
        assert len(events) == 10
    assert closings(await events_until(socket, 120)) == [9, 10]
    assert twin.faults.injected == {"losing_closings": 10}


async def test_a_share_of_closings_is_lost(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """About a third of many is lost, and each lost one is counted."""
    socket = await dial(BTC)
    with twin.faults.losing_closings(1 / 3):
        closed = closings(await events_until(socket, 300 * 60 - 1))
    lost = twin.faults.injected["losing_closings"]
    assert len(closed) + lost == 300
    assert 70 < lost < 130


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_zero_and_one(share: float) -> None:
    """Others are rejected when the block is created, not when it strikes."""

    async def ask() -> None:
        async with open_exchange(RandomMarket(symbols=1, seed=1, start_ms=START_MS), USDM) as it:
            with pytest.raises(ValueError, match="from 0 to 1"):
                it.faults.losing_closings(share)

    trio.run(ask)


async def test_delayed_closings_keep_their_event_time(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """They come 30 s late, even after the block; their event time is the true one."""
    socket = await dial(BTC)
    await events_until(socket, 59)
    with twin.faults.delaying_closings():
        assert await events_until(socket, 2) == []
    arrivals = []
    with trio.move_on_after(40):
        while True:
            event = json.loads(await socket.get_message())["data"]
            arrivals.append((round(trio.current_time(), 3), event["k"]["x"]))
            if event["k"]["x"]:
                assert 2 <= event["E"] - event["k"]["T"] <= 300
    assert arrivals == [(90.0, False), (90.299, True)]
    assert closings(await events_until(socket, 60)) == [1]


async def test_late_events_outlast_the_market(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Events delayed beyond its end are still sent."""
    market = Ended(symbols=1, seed=1, start_ms=START_MS, minutes=1)
    async with open_exchange(market, USDM, tick_ms=60_000) as exchange:
        socket = await dialling(TwinNetwork(exchange, nursery), nursery)(BTC)
        with exchange.faults.delaying_closings(by_ms=200_000):
            assert closings(await events_until(socket, 400)) == [-1, 0]
        nursery.cancel_scope.cancel()


async def test_doubled_closings_come_twice(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """They are identical and consecutive; nested blocks double them again."""
    socket = await dial(BTC)
    with twin.faults.doubling_closings():
        assert closings(await events_until(socket, 119)) == [-1, -1, 0, 0]
        with twin.faults.doubling_closings():
            assert closings(await events_until(socket, 60)) == [1] * 4
        assert closings(await events_until(socket, 60)) == [2, 2]


async def test_reordered_closings_all_arrive(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Some come after another stream's, some after the next event of their own; none is lost."""
    socket = await dial(THREE)
    with twin.faults.reordering():
        events = await events_until(socket, 1_799)
    events += await events_until(socket, 60)
    orders = {}
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        own = [event for event in events if event["s"] == symbol]
        assert closings(own) == list(range(-1, 30))
        orders[symbol] = any(
            one["k"]["t"] > other["k"]["t"] for one, other in pairwise(own) if other["k"]["x"]
        )
    assert any(orders.values())
    made = [event["E"] for event in events]
    assert made != sorted(made)


async def test_the_next_candle_may_come_first(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """An event of the next minute comes just before a closing event, with the same event time."""
    socket = await dial(BTC)
    with twin.faults.early_opens():
        events = await events_until(socket, 299)
    for before, event in pairwise([{}, *events]):
        if event["k"]["x"]:
            assert before["k"]["t"] == event["k"]["t"] + MINUTE_MS
            assert (before["k"]["x"], before["E"]) == (False, event["E"])
    assert twin.faults.injected["early_opens"] == 5


async def test_empty_candles_may_stay_open(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """In the block candles without trades have no closing event; afterwards they do."""
    socket = await dial("/market/stream?streams=solusdt@kline_1m")
    with twin.faults.quiet_empties():
        closed = [e["k"]["n"] for e in await events_until(socket, 3_599) if e["k"]["x"]]
    assert all(closed)
    assert len(closed) + twin.faults.injected["quiet_empties"] == 60
    assert not all(e["k"]["n"] for e in await events_until(socket, 3_600) if e["k"]["x"])


async def test_garbage_comes_between_events(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """A message of garbage comes before each event; the events are complete and in order."""
    socket = await dial(BTC)
    with twin.faults.garbling():
        texts = await texts_until(socket, 599)
    assert len(texts) == 40
    events = [json.loads(text)["data"] for text in texts[1::2]]
    assert closings(events) == list(range(-1, 9))
    assert len(set(texts[::2])) > 5


async def test_garbage_may_take_the_place_of_events(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Each replaces an event; a truncated event is the beginning of its text."""
    socket = await dial(BTC)
    with twin.faults.garbling(in_place=True):
        assert len(await texts_until(socket, 599)) == 20
    with twin.faults.truncating():
        for text in await texts_until(socket, 600):
            assert '{"stream":"btcusdt@kline_1m","data":'.startswith(text[:35])
            with pytest.raises(ValueError, match="line 1"):
                json.loads(text)


async def test_fragments_make_up_the_same_events(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Chinese letters may be split; the reassembled texts are complete."""
    path = f"/market/stream?streams={quote('币安人生usdt')}@kline_1m"
    whole, cut = await dial(path), await dial(path)
    with twin.faults.fragmenting():
        texts = [await texts_until(whole, 599), await texts_until(cut, 1)]
    assert texts[0] == texts[1]
    assert closings([json.loads(text)["data"] for text in texts[0]]) == list(range(-1, 9))
    assert twin.faults.injected["fragmenting"] == 20


async def test_silent_acks_stay_silent(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Streams subscribed in the block are listed but silent, on that connection only."""
    socket = await dial(BTC)
    subscribe = '{"method":"SUBSCRIBE","params":["ethusdt@kline_1m"],"id":1}'
    with twin.faults.silent_acks():
        await socket.send_message(subscribe)
        assert json.loads(await socket.get_message()) == {"result": None, "id": 1}
    await socket.send_message(subscribe)
    assert {event["s"] for event in await events_until(socket, 300)} == {"BTCUSDT"}
    await socket.send_message('{"method":"LIST_SUBSCRIPTIONS","id":2}')
    listed = json.loads(await socket.get_message())["result"]
    assert listed == ["btcusdt@kline_1m", "ethusdt@kline_1m"]
    fresh = await dial(TWO)
    assert {event["s"] for event in await events_until(fresh, 60)} == {"BTCUSDT", "ETHUSDT"}


async def test_stalled_sockets_never_send_again(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """They stay open and do not even close, and in the block none can be opened."""
    socket = await dial(BTC)
    await events_until(socket, 10)
    with twin.faults.stalling(), pytest.raises(trio.TooSlowError), trio.fail_after(60):
        await dial(BTC)
    two_days = 2 * 86_400
    assert await texts_until(socket, two_days) == []
    assert socket.closed is None
    assert closings(await events_until(await dial(BTC), 120)) != []
    with pytest.raises(trio.TooSlowError), trio.fail_after(60):
        await socket.aclose()
    assert twin.faults.injected == {"stalling": 2}


async def test_a_reset_has_no_close_frame(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Open connections break; the next one works."""
    sockets = [await dial(BTC), await dial(BTC)]
    twin.faults.reset_connections()
    for socket in sockets:
        with pytest.raises(trio_websocket.ConnectionClosed):
            await socket.get_message()
        assert socket.closed is not None
        assert socket.closed.code == 1006
    assert await events_until(await dial(BTC), 60)
    assert twin.faults.injected == {"reset_connections": 2}


async def test_connections_are_closed_with_a_code(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """The code is 1001 by default; a share of many sockets is the same each time."""
    sockets = [await dial(BTC) for _ in range(20)]
    twin.faults.close_connections(share=0.5)
    await trio.sleep(1)
    closed = [socket.closed for socket in sockets if socket.closed is not None]
    assert 0 < len(closed) < 20
    assert {(each.code, each.reason) for each in closed} == {(1001, "going away")}
    twin.faults.close_connections(1012, "restart")
    await trio.sleep(1)
    assert {socket.closed.code for socket in sockets if socket.closed} == {1001, 1012}


async def test_connections_have_a_longest_life(dial: Dial, autojump_clock: MockClock) -> None:
    """After 24 hours they are closed with a close frame."""
    socket = await dial("/market/ws")
    with trio.fail_after(86_401), pytest.raises(trio_websocket.ConnectionClosed):
        await socket.get_message()
    assert trio.current_time() == pytest.approx(86_400)
    assert socket.closed is not None
    assert socket.closed.code == 1000


async def test_shutdowns_are_announced_in_every_shape(twin: Exchange, dial: Dial) -> None:
    """In the wire's shape, raw or combined; or in the one the SDK expects, on both alike."""
    raw, combined = await dial("/market/ws"), await dial("/market/stream")
    twin.faults.announce_shutdown()
    notice = json.loads(await raw.get_message())
    assert notice["e"] == "serverShutdown"
    envelope = json.loads(await combined.get_message())
    assert envelope == {"stream": "!serverShutdown", "data": notice}
    twin.faults.announce_shutdown("sdk")
    for socket in (raw, combined):
        assert json.loads(await socket.get_message())["event"]["e"] == "serverShutdown"
    assert twin.faults.injected == {"announce_shutdown": 2}


async def test_outages_overlap(twin: Exchange, dial: Dial, autojump_clock: MockClock) -> None:
    """Connections are refused until the last one is over."""
    first, second = twin.offline(), twin.offline()
    with second:
        with first:
            pass
        with pytest.raises(ExchangeUnreachable):
            await dial(BTC)
    assert await events_until(await dial(BTC), 60)


async def test_without_faults_nothing_happens(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Ended blocks have no effect, in whatever order they ended."""
    socket = await dial(TWO)
    before = await events_until(socket, 599)
    outer, inner = twin.faults.doubling_closings(0.5), twin.faults.losing_closings(0.5)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert not twin.faults.disturb_events
    after = await events_until(socket, 600)
    assert [e["k"]["x"] for e in before] == [e["k"]["x"] for e in after]


_SCRIPT = """
import trio
from tests.twin.faults.test_faults import all_at_once
from trio.testing import MockClock
print(trio.run(all_at_once, clock=MockClock(autojump_threshold=0)))
"""


async def all_at_once() -> str:
    """All that a client receives in an hour of faults, and the counts."""
    async with (
        trio.open_nursery() as nursery,
        open_exchange(
            RandomMarket(symbols=5, seed=1, start_ms=START_MS), USDM, tick_ms=15_000, seed=3
        ) as exchange,
    ):
        socket = await dialling(TwinNetwork(exchange, nursery), nursery)(THREE)
        faults = exchange.faults
        with (
            faults.losing_closings(0.1),
            faults.delaying_closings(0.1),
            faults.doubling_closings(0.1),
            faults.reordering(0.1),
            faults.early_opens(0.1),
            faults.garbling(0.1),
            faults.truncating(0.1),
            faults.fragmenting(0.1),
        ):
            texts = await texts_until(socket, 3_599)
        nursery.cancel_scope.cancel()
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return f"{digest} {len(texts)} {dict(faults.injected)}"


@pytest.mark.slow
def test_faults_depend_on_the_seed_alone() -> None:
    """They do not depend on Python's hash seed."""
    closed = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(closed) == 1
    assert "'fragmenting'" in closed.pop()
