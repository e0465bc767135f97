"""Lies of REST as a client sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from itertools import pairwise

import httpx2
import pytest
import trio
from trio.testing import MockClock

from klineagent.core.interval import HOUR_MS, MINUTE_MS
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import SPOT
from tests.twin.samples import START_MS, Dial, events_until

PAGE = {
    "symbol": "BTCUSDT",
    "interval": "1m",
    "startTime": str(START_MS - HOUR_MS),
    "endTime": str(START_MS - 1),
}
NEWEST = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1"}
Row = list[int | str]


@pytest.fixture
async def client(network: TwinNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    """A REST client, in memory."""
    transport = network.http_transport()
    async with httpx2.AsyncClient(base_url="https://x/fapi/v1", transport=transport) as rest:
        yield rest


async def ask(client: httpx2.AsyncClient, **query: str) -> list[Row]:
    """The klines of an hour."""
    rows: list[Row] = (await client.get("/klines", params=query or PAGE)).json()
    return rows


async def test_klines_are_empty_for_a_share_of_requests(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """Each is counted, and none comes after the block."""
    true = await ask(client)
    assert len(true) == 60
    with twin.lies.empty_klines(0.5):
        answers = [await ask(client) for _ in range(40)]
    assert [] in answers
    assert true in answers
    assert twin.faults.injected == {"empty_klines": answers.count([])}
    assert await ask(client) == true


async def test_rows_of_klines_are_missing(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """At either end or in between; the other rows are true."""
    true = await ask(client)
    missing = set()
    with twin.lies.missing_klines():
        for _ in range(30):
            rows = await ask(client)
            assert len(rows) < 60
            assert all(row in true for row in rows)
            missing.add((true[0] in rows, true[-1] in rows))
    assert {(True, False), (False, True), (True, True)} <= missing


async def test_on_spot_no_candle_is_lied_about_twice(autojump_clock: MockClock) -> None:
    """There two answers without a candle are the only proof of its absence."""
    market = RandomMarket(symbols=3, seed=7, start_ms=START_MS, venue_name="spot")
    async with open_exchange(market, SPOT) as exchange, trio.open_nursery() as nursery:
        transport = TwinNetwork(exchange, nursery).http_transport()
        async with httpx2.AsyncClient(base_url="https://x/api/v3", transport=transport) as client:
            true = await ask(client)
            missing: list[Row] = []
            with exchange.lies.missing_klines(), exchange.lies.off_grid_klines(0.3):
                for _ in range(100):
                    rows = await ask(client)
                    missing += [row for row in true if row not in rows]
        nursery.cancel_scope.cancel()
    opens = [row[0] for row in missing]
    assert len(opens) == len(set(opens)) > 30


async def test_klines_are_off_the_grid_by_another_span_each_time(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """Close times always, open times mostly; never by whole minutes."""
    true, shifts = await ask(client), []
    with twin.lies.off_grid_klines():
        for _ in range(20):
            rows = await ask(client)
            (shift,) = {int(row[6]) - int(old[6]) for row, old in zip(rows, true, strict=True)}
            assert rows[0][0] in {true[0][0], int(true[0][0]) + shift}
            assert shift % MINUTE_MS
            shifts.append(shift)
    assert len(set(shifts)) == len(shifts)


async def test_one_row_is_odd(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """All others are unchanged."""
    true = await ask(client)
    with twin.lies.odd_rows():
        for _ in range(30):
            rows = await ask(client)
            assert sum(row != old for row, old in zip(rows, true, strict=True)) == 1


async def test_a_row_that_is_odd_already_is_not_changed(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """Several lies about one answer combine in any order."""
    true = await ask(client)
    with (
        twin.lies.odd_rows(),
        twin.lies.off_grid_klines(),
        twin.lies.missing_klines(),
        twin.lies.odd_rows(),
    ):
        for _ in range(200):
            assert await ask(client) != true


async def test_klines_are_stale_or_frozen(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """By a different span each time, or as of the block's begin; `/time` is correct."""
    await trio.sleep(600)
    with twin.lies.stale_klines(most_ms=5 * MINUTE_MS):
        opens = {row[0] for _ in range(50) for row in await ask(client, **NEWEST)}
    assert opens == {START_MS + minute * MINUTE_MS for minute in range(5, 10)}
    with twin.lies.frozen_klines():
        before = await ask(client, **NEWEST)
        await trio.sleep(600)
        assert await ask(client, **NEWEST) == before
        assert (await client.get("/time")).json() == {"serverTime": START_MS + 1_200_000}
    assert twin.faults.injected["frozen_klines"] == 1


async def test_only_klines_may_hang(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """`/time` is answered meanwhile."""
    with twin.faults.hanging_rest("/klines"):
        assert (await client.get("/time")).json() == {"serverTime": START_MS}
        with trio.move_on_after(60) as patience:
            await ask(client)
    assert patience.cancelled_caught


async def test_the_time_is_wrong_by_another_span_each_time(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock
) -> None:
    """Some are no times; no two agree within seconds."""
    with twin.lies.wrong_server_time():
        answer = [(await client.get("/time")).json()["serverTime"] for _ in range(100)]
    assert None in answer
    assert START_MS * 1_000 in answer
    times = sorted(t for t in answer if isinstance(t, int) and 0 < abs(t - START_MS) < 10**10)
    assert len(times) > 50
    assert min(later - time for time, later in pairwise(times)) >= 10_000


@pytest.mark.parametrize("name", ["odd_symbols", "short_lists"])
async def test_lists_of_symbols_are_odd(
    twin: Exchange, client: httpx2.AsyncClient, autojump_clock: MockClock, name: str
) -> None:
    """One symbol is odd, or some are missing; the others are unchanged."""
    true = (await client.get("/exchangeInfo")).json()
    lie: AbstractContextManager[None] = getattr(twin.lies, name)()
    with lie:
        for _ in range(30):
            answer = (await client.get("/exchangeInfo")).json()
            assert answer.keys() == true.keys()
            missing = [each for each in true["symbols"] if each not in answer["symbols"]]
            odd = [each for each in answer["symbols"] if each not in true["symbols"]]
            if name == "odd_symbols":
                assert (len(missing), len(odd)) == (1, 1)
            else:
                assert not odd


async def test_late_states_come_after_their_time(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Half a minute after its close a candle has a forming event with a later time."""
    socket = await dial("/market/stream?streams=btcusdt@kline_1m")
    with twin.lies.late_forming():
        events = await events_until(socket, 95)
    closed = next(event for event in events if event["k"]["x"])
    late = [event for event in events if event["k"]["t"] == closed["k"]["t"]]
    after = late[late.index(closed) + 1 :]
    assert len(after) == 2
    assert all(not event["k"]["x"] and event["E"] > closed["E"] for event in after)
