"""What earlier runs have recorded is read, too, however little a start looks back."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from klineagent.api.reading.binance import read_app
from klineagent.core.errors import NotReadable
from klineagent.core.interval import HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import USDM
from klineagent.reading import ranges
from klineagent.reading.candles import CandleReader
from klineagent.reading.past import MOST_MISSING, reach
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation
from klineagent.twin.market.market import Market
from klineagent.twin.market.random import RandomMarket
from tests.reading.test_candles import closed_of, ours, theirs
from tests.simulations.looking import HOUR_S, MINUTE_S

HOURS = 3
LATER_MS = FEBRUARY_2026_MS + HOURS * HOUR_MS
LAST = {"symbol": "BTCUSDT", "interval": "1m", "limit": "150"}
SINCE = {**LAST, "limit": "5", "startTime": str(FEBRUARY_2026_MS + 20 * MINUTE_MS)}
SETTINGS: dict[str, Any] = {
    "symbols": ["BTCUSDT"],
    "intervals": [Interval.M1],
    "history": 10,
    "lookback_s": 900,
}


def market(start_ms: int = FEBRUARY_2026_MS) -> Market:
    """The same candles, whenever it starts."""
    days_before = start_ms - FEBRUARY_2026_MS + 3 * 24 * HOUR_MS
    return RandomMarket(
        symbols=3, seed=1, start_ms=start_ms, venue_name=USDM.name, history_ms=days_before
    )


async def recorded_before() -> MemoryStore:
    """The store of an agent that has run for three hours."""
    store = MemoryStore()
    async with open_simulation(**SETTINGS, store=store, market=market()):
        await trio.sleep(HOURS * HOUR_S + 1)
    return store


async def test_what_an_earlier_run_stored_is_answered(autojump_clock: MockClock) -> None:
    """As klines and as documents; a candle that lacks among it is fetched first."""
    store = await recorded_before()
    lacking = ("usdm", "BTCUSDT", "1m", FEBRUARY_2026_MS + 60 * MINUTE_MS)
    del store.klines[lacking]
    store._closed_opens[lacking[:3]].discard(lacking[3])
    async with open_simulation(
        **SETTINGS,
        store=store,
        market=market(LATER_MS),
        tick_ms=1_000,
    ) as simulation:
        reader = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(2 * MINUTE_S + 7)
            [series] = simulation.agent.registry.subscriptions()
            assert series.ledger.first_ms == LATER_MS - 15 * MINUTE_MS
            for query in (LAST, SINCE):
                now_ms = simulation.exchange.clock.now_ms()
                answer = await ours(simulation, reader, query)
                assert closed_of(answer, now_ms) == closed_of(theirs(simulation, query), now_ms)
            assert series.ledger.first_ms == FEBRUARY_2026_MS - 10 * MINUTE_MS
            assert series.ledger.healed >= 1
            client = read_app(reader).test_client()
            answer_of = await client.get("/v1/candles?symbol=BTCUSDT&interval=1m&format=jsonl")
            lines = (await answer_of.get_data(as_text=True)).splitlines()
            assert len(lines) == 10 + HOURS * 60 + 2


async def test_a_document_without_a_beginning_begins_with_what_is_stored(
    autojump_clock: MockClock,
) -> None:
    """And the last hundred are a hundred, though the start looked back for a quarter of an hour."""
    store = await recorded_before()
    async with open_simulation(
        **SETTINGS,
        store=store,
        market=market(LATER_MS),
    ) as simulation:
        reader = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        client = read_app(reader).test_client()
        await trio.sleep(MINUTE_S + 7)
        path = "/v1/candles?symbol=BTCUSDT&interval=1m&format=jsonl"
        for more, count in (("&last=100", 100), ("", 10 + HOURS * 60 + 1)):
            answer = await client.get(path + more)
            assert len((await answer.get_data(as_text=True)).splitlines()) == count


async def test_only_so_many_series_are_looked_up_for_one_request(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a query on the agent's own session; what has been looked up counts no more."""
    store = await recorded_before()
    async with open_simulation(**SETTINGS, store=store, market=market(LATER_MS)) as simulation:
        reader = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        client = read_app(reader).test_client()
        await trio.sleep(MINUTE_S + 7)
        for most, status in ((0, 503), (1, 200), (0, 200)):
            monkeypatch.setattr(ranges, "MOST_REVEALED", most)
            answer = await client.get("/v1/candles?symbol=*&interval=1m")
            assert answer.status_code == status
            assert status == 200 or b"ask once for 0 at a time" in await answer.get_data()


async def test_without_the_database_the_past_is_refused(autojump_clock: MockClock) -> None:
    """As it is not known; once it is back, it is answered."""
    store = await recorded_before()
    async with open_simulation(
        **SETTINGS,
        store=store,
        market=market(LATER_MS),
    ) as simulation:
        reader = CandleReader(venues=simulation.agent.venues, writer=simulation.agent.writer)
        with simulation.agent.bus.subscribed(reader.tail):
            await trio.sleep(2 * MINUTE_S + 7)
            with store.offline(), pytest.raises(NotReadable, match="cannot be read"):
                await ours(simulation, reader, SINCE)
            await ours(simulation, reader, SINCE)


def test_stored_runs_reach_back_to_a_long_gap() -> None:
    """Shorter holes are candles that lack."""

    def at(minute: int) -> int:
        return FEBRUARY_2026_MS + minute * MINUTE_MS

    late = (at(20), at(29))
    early = (at(0), at(9))
    assert reach([early, late], at(30), Interval.M1) == (at(0), [(at(10), at(20))])
    long_ago = (at(-2 * MOST_MISSING), at(-MOST_MISSING - 2))
    assert reach([long_ago, early, late], at(30), Interval.M1)[0] == at(0)
    assert reach([], at(30), Interval.M1) == (at(30), [])
