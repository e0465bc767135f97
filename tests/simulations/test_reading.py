"""What a program that reads sees of each fault, and when: the truth, or an error that passes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from attrs import frozen
from quart.typing import TestClientProtocol as Client
from trio.testing import MockClock

from klineagent.api.reading.binance import read_app
from klineagent.core.interval import HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import USDM
from klineagent.proof.market_answers import MarketAnswers
from klineagent.proof.reading import TRUE, ProofReader
from klineagent.reading.candles import CandleReader
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.market import Market
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import HOUR_S, MINUTE_S

BTC, ETH = "BTCUSDT", "ETHUSDT"
WAITS_S = 3.0
"""The longest that a read waits for what is missing."""


@frozen
class Seen:
    """An answer as a client sees it."""

    status: int
    body: Any
    after_s: float

    @property
    def is_refused(self) -> bool:
        """Whether it is an error that clients take for one that passes."""
        return self.status == 503 and self.body["code"] == -1000

    @property
    def opens(self) -> list[int]:
        """The open times of its rows."""
        assert self.status == 200, self.body
        return [row[0] for row in self.body]


@frozen
class Reading:
    """A client of an agent, beside a program that asks all the time and compares."""

    simulation: Simulation
    client: Client
    program: ProofReader

    async def klines(self, symbol: str = BTC, **more: int) -> Seen:
        """Ask for the newest ten minutes, or others."""
        query = {"limit": 10, **more}
        parameters = "&".join(f"{name}={value}" for name, value in query.items())
        return await self._get(f"/fapi/v1/klines?symbol={symbol}&interval=1m&{parameters}")

    async def document(self, symbol: str = BTC) -> Seen:
        """Ask for all closed minutes."""
        path = f"/v1/candles?symbol={symbol}&interval=1m&format=jsonl"
        return await self._get(path)

    async def _get(self, path: str) -> Seen:
        asked_at = trio.current_time()
        answer = await self.client.get(path)
        text = await answer.get_data()
        is_rows = "ndjson" in answer.content_type
        body = text.splitlines() if is_rows else msgspec.json.decode(text)
        return Seen(answer.status_code, body, trio.current_time() - asked_at)

    async def until_a_minute_is_over(self) -> None:
        """Wait until a moment after a close."""
        await trio.sleep((MINUTE_MS - self.now_ms % MINUTE_MS + 200) / 1000)

    @property
    def now_ms(self) -> int:
        """The exchange's time."""
        return self.simulation.exchange.clock.now_ms()

    def newest(self, seen: Seen) -> int:
        """How many candles ago the newest one of an answer opened."""
        return (Interval.M1.open_at(self.now_ms) - seen.opens[-1]) // MINUTE_MS


def _market(start_ms: int = FEBRUARY_2026_MS) -> Market:
    """The same candles, whenever it starts."""
    history_ms = start_ms - FEBRUARY_2026_MS + 24 * HOUR_MS
    return RandomMarket(
        symbols=3, seed=1, start_ms=start_ms, venue_name=USDM.name, history_ms=history_ms
    )


@asynccontextmanager
async def _reading(market: Market | None = None, **settings: Any) -> AsyncIterator[Reading]:
    """Five minutes after the start; in the end all answers were true, and some were there."""
    market = market or _market()
    given = {"symbols": [BTC, ETH], "history": 60, "tick_ms": 1_000, **settings}
    async with open_simulation(
        **given, intervals=[Interval.M1, Interval.M5], market=market
    ) as simulation:
        agent = simulation.agent
        program = ProofReader(
            venue_name="usdm",
            symbols=(BTC,),
            intervals=(Interval.M1, Interval.M5),
            answers=MarketAnswers.of(simulation.exchange, market),
            chance=random.Random(5),
            every_s=5,
        )
        reader = CandleReader(venues=agent.venues, writer=agent.writer)
        client = read_app(reader).test_client()
        async with trio.open_nursery() as programs:
            programs.start_soon(program.read, agent)
            with agent.bus.subscribed(reader.tail):
                await trio.sleep(5 * MINUTE_S + 7)
                yield Reading(simulation, client, program)
            programs.cancel_scope.cancel()
        assert program.counts[TRUE] > 10


async def test_when_nothing_fails_each_answer_is_there_at_once(autojump_clock: MockClock) -> None:
    """With the forming candle as it is now; just after a close it waits for the closing event."""
    async with _reading() as reading:
        program = reading.program
        program.counts.clear()
        for _ in range(40):
            await trio.sleep(7.1)
            seen = await reading.klines()
            if reading.now_ms % MINUTE_MS > 2_500:
                truth = program.answers.rows(
                    {"symbol": BTC, "interval": "1m", "limit": "1"}, reading.now_ms - 2_500
                )
                [before] = map(msgspec.json.decode, truth)
                assert seen.opens[-1] == before[0]
                assert seen.body[-1][8] >= before[8]  # trades
            assert len(seen.opens) >= 9
            assert seen.after_s < 0.5
        usual = ("is recorded from", "begins just now")
        assert all(any(why in text for why in usual) for text in program.refusals)


@pytest.mark.parametrize("with_spool", [False, True])
async def test_while_the_database_is_away_memory_answers(
    autojump_clock: MockClock, *, with_spool: bool
) -> None:
    """What passed since the first read is there, newest included; the rest is refused at once."""
    async with _reading(disk=MemoryDisk() if with_spool else None) as reading:
        await reading.klines()
        with reading.simulation.store.offline():
            for turn in range(6):
                await trio.sleep(5 * MINUTE_S)
                seen = await reading.klines()
                assert (len(seen.opens), reading.newest(seen)) == (10, 0)
                assert seen.after_s < 0.5
                unread = await reading.klines(ETH, limit=10)
                assert unread.is_refused if turn < 2 else len(unread.opens) == 10
                for refused in (
                    await reading.klines(startTime=FEBRUARY_2026_MS - 30 * MINUTE_MS),
                    await reading.document(),
                ):
                    assert refused.status == 503
                    assert "cannot be read" in str(refused.body)
                    assert refused.after_s < 2
        await trio.sleep(MINUTE_S)
        for again in (await reading.klines(ETH), await reading.klines()):
            assert len(again.opens) == 10
        assert len((await reading.document()).body) == 60 + 5 + 30 + 1


@pytest.mark.logs("spool_unusable", "spool_filling")
async def test_while_the_spool_fills_nothing_is_left_out(autojump_clock: MockClock) -> None:
    """Rows in the spool, and rows in memory once it is full, are in no answer but whole ones."""
    async with _reading(disk=MemoryDisk(), spool_limit=2_000) as reading:
        await reading.klines()
        with reading.simulation.store.offline():
            await trio.sleep(HOUR_S)
            seen = await reading.klines(limit=60)
            assert (len(seen.opens), reading.newest(seen)) == (60, 0)
            assert (await reading.klines(ETH)).is_refused
        await trio.sleep(MINUTE_S)
        assert len((await reading.klines(ETH, limit=60)).opens) == 60


async def test_while_the_exchange_is_away_the_newest_is_refused(
    autojump_clock: MockClock,
) -> None:
    """After three seconds; what closed before is there. A minute after its return all is there."""
    async with _reading() as reading:
        went_ms = Interval.M1.open_at(reading.now_ms)
        with reading.simulation.exchange.offline():
            await trio.sleep(3 * MINUTE_S)
            seen = await reading.klines()
            assert seen.is_refused
            assert "BTCUSDT 1m" in seen.body["msg"]
            assert seen.after_s == pytest.approx(WAITS_S, abs=0.3)
            before = await reading.klines(endTime=went_ms - 1)
            assert (len(before.opens), before.after_s < 0.5) == (10, True)
        await trio.sleep(MINUTE_S)
        seen = await reading.klines()
        assert (len(seen.opens), reading.newest(seen)) == (10, 0)


async def test_a_gap_that_is_being_healed_is_waited_for(autojump_clock: MockClock) -> None:
    """For three seconds: a lost closing event is missed after one, and fetched at once."""
    async with _reading(grace_s=1.0) as reading:
        exchange = reading.simulation.exchange
        with exchange.faults.losing_closings():
            await reading.until_a_minute_is_over()
            seen = await reading.klines()
            assert (len(seen.opens), reading.newest(seen)) == (10, 0)
            assert 0.7 < seen.after_s < 1.5
            with exchange.faults.hanging_rest("/klines"):
                await reading.until_a_minute_is_over()
                seen = await reading.klines()
                assert seen.is_refused
                assert "1 candle of BTCUSDT 1m is missing and being fetched" in seen.body["msg"]
                assert seen.after_s == pytest.approx(WAITS_S, abs=0.3)
        await trio.sleep(MINUTE_S)
        assert len((await reading.klines()).opens) == 10


async def test_an_agent_that_restarts_refuses_until_it_knows_what_lacks(
    autojump_clock: MockClock,
) -> None:
    """Within ten seconds it answers, with the candles that closed while it was away."""
    store, state = MemoryStore(), MemoryDisk()
    async with _reading(store=store, state=state):
        pass
    later = _market(FEBRUARY_2026_MS + HOUR_MS)
    async with open_simulation(
        symbols=[BTC, ETH],
        intervals=[Interval.M1, Interval.M5],
        history=60,
        tick_ms=1_000,
        market=later,
        store=store,
        state=state,
    ) as simulation:
        agent = simulation.agent
        reader = CandleReader(venues=agent.venues, writer=agent.writer)
        client = read_app(reader).test_client()
        answers = MarketAnswers.of(simulation.exchange, later)
        query = {"symbol": BTC, "interval": "1m", "limit": "70"}
        path = f"/fapi/v1/klines?symbol={BTC}&interval=1m&limit=70"
        began_at, refused = trio.current_time(), 0
        with agent.bus.subscribed(reader.tail):
            while True:
                asked_ms = simulation.exchange.clock.now_ms()
                answer = await client.get(path)
                if answer.status_code == 200:
                    break
                assert answer.status_code == 503
                refused += 1
                await trio.sleep(0.1)
            rows = msgspec.json.decode(await answer.get_data(), type=list[msgspec.Raw])
            now_ms = simulation.exchange.clock.now_ms()
            assert not answers.fault(query, [*map(bytes, rows)], asked_ms, now_ms)
        assert refused > 0
        assert trio.current_time() - began_at < 10
