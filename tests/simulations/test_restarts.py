"""What a run knew to be missing the next one fetches, whenever and however it ended."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from klineagent.bind import Bind
from klineagent.config import Config
from klineagent.kline import MINUTE_MS, Interval
from klineagent.proof.life import Life
from klineagent.proof.witness import Witness
from klineagent.sim.exchange import Exchange, open_exchange
from klineagent.sim.network import TwinNetwork
from klineagent.sim.random_market import RandomMarket
from klineagent.sim.venue import venue_named
from klineagent.simulation import FEBRUARY_2026_MS
from klineagent.storage.memory import MemoryStore
from klineagent.storage.runs import opens_in
from tests.simulations.looking import DAY_S, HOUR_S, MINUTE_S

SYMBOLS = ("BTCUSDT", "ETHUSDT")
INTERVALS = (Interval.M1, Interval.M15)
LOOKBACK_S = HOUR_S
OUTAGE_S = 2 * DAY_S
"""Many times what the start looks back, and many pages of REST answers."""


@frozen
class _World:
    exchange: Exchange
    store: MemoryStore
    life: Life

    async def begun(self) -> None:
        """Wait until an agent runs."""
        while self.life.agent is None:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.1)

    def lacking(self) -> int:
        """How many candles are not stored that closed since the first agent began."""
        now_ms = self.exchange.clock.now_ms() - 30_000
        expected = (
            ("usdm", symbol, interval.value, open_ms)
            for symbol in SYMBOLS
            for interval in INTERVALS
            for open_ms in opens_in(FEBRUARY_2026_MS, interval.open_at(now_ms), interval.value)
        )
        klines = self.store.klines
        return sum(key not in klines or not klines[key].is_closed for key in expected)


@asynccontextmanager
async def _open_world(seed: int) -> AsyncIterator[_World]:
    """An agent that is started again whenever it ends; it has recorded for a while."""
    market = RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    loopback = Bind("127.0.0.1", 0)
    config = Config(
        symbols=SYMBOLS,
        intervals=INTERVALS,
        store="memory:",
        lookback_s=LOOKBACK_S,
        history=0,
        command_bind=loopback,
        status_bind=loopback,
        agent_ip=loopback.host,
    )
    async with (
        open_exchange(market, venue_named("usdm"), tick_ms=5 * MINUTE_MS) as exchange,
        trio.open_nursery() as connections,
        trio.open_nursery() as tasks,
    ):
        store = MemoryStore()
        life = Life(
            config=config,
            network=TwinNetwork(exchange, connections),
            store=store,
            witness=Witness(market=market, venue_name="usdm"),
            chance=random.Random(seed),
        )
        tasks.start_soon(life.live)
        world = _World(exchange, store, life)
        await world.begun()
        await trio.sleep(HOUR_S)
        assert not life.failures
        yield world
        assert not life.failures
        tasks.cancel_scope.cancel()
        connections.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_a_backfill_that_is_killed_again_and_again_ends_with_all_there_is(
    autojump_clock: MockClock, seed: int
) -> None:
    """After two days without an agent five die in the midst of it, at whatever moment.

    Two live longer than the start looks back, and record, while no candle can be fetched; one has
    no database at its start.
    """
    chance = random.Random(seed)
    lives_s = [3.0, 30.0, 90.0, 1.2 * HOUR_S, 1.2 * HOUR_S]
    chance.shuffle(lives_s)
    async with _open_world(seed) as world:
        life, faults = world.life, world.exchange.faults
        life.kill(OUTAGE_S)
        await trio.sleep(OUTAGE_S)
        lacking = []
        for number, life_s in enumerate(lives_s):
            await world.begun()
            with ExitStack() as troubles:
                troubles.enter_context(
                    faults.hanging_rest("/fapi/v1/klines")
                    if life_s > HOUR_S
                    else faults.failing_rest(0.95)
                )
                if number == seed % len(lives_s):
                    with world.store.offline():
                        await trio.sleep(chance.uniform(60, 120))
                await trio.sleep(chance.uniform(0.9, 1.1) * life_s)
                lacking.append(world.lacking())
                end = chance.choice([life.kill, life.cut_power])
                end(chance.uniform(1, 300))
                await trio.sleep(0.5)
        assert max(lacking) > 100, "all of them died when all was done"
        await world.begun()
        await trio.sleep(10 * MINUTE_S)
        assert world.lacking() == 0
        assert life.agent is not None
        assert life.agent.registry.missing() == 0
