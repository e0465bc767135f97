"""Candles that one run knows to be missing are fetched by the next, however it ended."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import HOUR_MS, MINUTE_MS, Interval, opens_in
from klineagent.proof.lifecycle import Lifecycle
from klineagent.proof.oracle import Oracle
from klineagent.series.backfill.audit import PASS_S
from klineagent.series.backfill.gap_file import GapFile
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named
from tests.simulations.looking import DAY_S, HOUR_S, MINUTE_S

SYMBOLS = ("BTCUSDT", "ETHUSDT")
INTERVALS = (Interval.M1, Interval.M15)
STATE = "subscriptions.json"
LOOKBACK_S = HOUR_S
OUTAGE_S = 2 * DAY_S
"""Many times the lookback of a start, and many pages of REST answers."""


@frozen
class _World:
    exchange: Exchange
    store: MemoryStore
    lifecycle: Lifecycle

    async def begun(self) -> None:
        """Wait until an agent runs."""
        while self.lifecycle.agent is None:  # noqa: ASYNC110 - a proof has no event for it
            await trio.sleep(0.1)

    def missing(self) -> int:
        """The number of candles that the agent knows to be missing."""
        assert self.lifecycle.agent is not None
        return self.lifecycle.agent.registry.missing()

    def not_stored(self, intervals: Collection[Interval] = INTERVALS) -> int:
        """The number of candles that closed since the first agent began and are not stored."""
        now_ms = self.exchange.clock.now_ms() - 30_000
        expected = (
            ("usdm", symbol, interval.value, open_ms)
            for symbol in SYMBOLS
            for interval in intervals
            for open_ms in opens_in(FEBRUARY_2026_MS, interval.open_at(now_ms), interval.value)
        )
        klines = self.store.klines
        return sum(key not in klines or not klines[key].is_closed for key in expected)


@asynccontextmanager
async def _open_world(
    seed: int, intervals: Collection[Interval] = INTERVALS
) -> AsyncIterator[_World]:
    """An agent that is started again whenever it ends; it has recorded for a while."""
    market = RandomMarket(symbols=3, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    loopback = Bind("127.0.0.1", 0)
    config = Config(
        symbols=SYMBOLS,
        intervals=tuple(intervals),
        store="memory:",
        lookback_s=LOOKBACK_S,
        history=0,
        command_bind=loopback,
        status_bind=loopback,
        read_bind=None,
        agent_ip=loopback.host,
    )
    async with (
        open_exchange(market, venue_named("usdm"), tick_ms=5 * MINUTE_MS) as exchange,
        trio.open_nursery() as connections,
        trio.open_nursery() as tasks,
    ):
        store = MemoryStore()
        lifecycle = Lifecycle(
            config=config,
            network=TwinNetwork(exchange, connections),
            store=store,
            oracles={"usdm": Oracle(market=market, venue_name="usdm")},
            chance=random.Random(seed),
        )
        tasks.start_soon(lifecycle.run)
        world = _World(exchange, store, lifecycle)
        await world.begun()
        await trio.sleep(HOUR_S)
        assert not lifecycle.failures
        yield world
        assert not lifecycle.failures
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
        lifecycle, faults = world.lifecycle, world.exchange.faults
        lifecycle.kill(OUTAGE_S)
        await trio.sleep(OUTAGE_S)
        not_stored = []
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
                not_stored.append(world.not_stored())
                end = chance.choice([lifecycle.kill, lifecycle.cut_power])
                end(chance.uniform(1, 300))
                await trio.sleep(0.5)
        assert max(not_stored) > 100, "all of them died when all was done"
        await world.begun()
        await trio.sleep(10 * MINUTE_S)
        assert world.not_stored() == 0
        assert lifecycle.agent is not None
        assert lifecycle.agent.registry.missing() == 0


async def test_a_restart_fetches_nothing_that_is_stored(autojump_clock: MockClock) -> None:
    """Though the ledger covers everything that it covered before."""
    async with _open_world(1) as world:
        await trio.sleep(4 * HOUR_S)
        for life_s in (5 * MINUTE_S, 1.5 * HOUR_S):
            world.lifecycle.kill(5)
            await trio.sleep(6)
            await world.begun()
            await trio.sleep(life_s)
            assert world.lifecycle.agent is not None
            registry = world.lifecycle.agent.registry
            # One candle of each series may have closed in between.
            assert registry.context.tally.found.total() <= registry.count()
            for each in registry.subscriptions():
                assert each.ledger.first_ms <= FEBRUARY_2026_MS


LISTINGS_MS = {"in 2100": 4_102_444_800_000, "an hour ago": FEBRUARY_2026_MS + 6 * HOUR_MS}


@pytest.mark.parametrize("listed", LISTINGS_MS)
async def test_a_wrong_listing_date_takes_nothing_away(
    autojump_clock: MockClock, listed: str
) -> None:
    """Neither candles that closed while no agent ran, nor those that the gap file covers."""
    async with _open_world(1) as world:
        world.lifecycle.kill(6 * HOUR_S)
        await trio.sleep(6 * HOUR_S)

        def lie(content: Any, _: object) -> Any:
            symbols = [each | {"onboardDate": LISTINGS_MS[listed]} for each in content["symbols"]]
            return content | {"symbols": symbols}

        with world.exchange.faults.lying("/exchangeInfo", lie):
            await world.begun()
            await trio.sleep(10 * MINUTE_S)
            assert (world.not_stored(), world.missing()) == (0, 0)
            world.lifecycle.kill(5)
            await trio.sleep(6)
            await world.begun()
            await trio.sleep(MINUTE_S)
        assert world.lifecycle.agent is not None
        for each in world.lifecycle.agent.registry.subscriptions():
            assert each.ledger.first_ms <= FEBRUARY_2026_MS


@pytest.mark.parametrize("lost_hours", [(0, 6), (4, 6), (4.5, 5)])
async def test_rows_lost_while_no_agent_ran_are_missing_at_once(
    autojump_clock: MockClock, lost_hours: tuple[float, float]
) -> None:
    """If no older row is left, and within the lookback of the start."""
    async with _open_world(1) as world:
        await _lose(world, *lost_hours)
        await trio.sleep(10 * MINUTE_S)
        assert (world.not_stored(), world.missing()) == (0, 0)


@pytest.mark.logs("audit_finding")
@pytest.mark.parametrize("lost_hours", [(0, 2), (1, 3)])
async def test_rows_lost_while_no_agent_ran_are_found(
    autojump_clock: MockClock, lost_hours: tuple[float, float]
) -> None:
    """If they are older than the lookback: by the audit, in a pass or two."""
    async with _open_world(1) as world:
        await _lose(world, *lost_hours)
        await trio.sleep(2 * PASS_S + 10 * MINUTE_S)
        assert (world.not_stored(), world.missing()) == (0, 0)


async def _lose(world: _World, first: float, end: float) -> None:
    """Between two starts, five hours after the first began, rows of these hours are lost."""
    first_ms, end_ms = (FEBRUARY_2026_MS + int(hours * HOUR_MS) for hours in (first, end))
    await trio.sleep(4 * HOUR_S)
    world.lifecycle.kill(5)
    await trio.sleep(1)
    with world.store.forgetting(lambda row: first_ms <= row.open_time < end_ms):
        assert world.not_stored() > 50
    await world.begun()


async def test_a_first_candle_that_closed_while_no_agent_ran_is_fetched(
    autojump_clock: MockClock,
) -> None:
    """Nothing of the series was stored yet, but it had begun."""
    long = (Interval.H4, Interval.D1)
    async with _open_world(1, long) as world:
        await trio.sleep(2.6 * HOUR_S)
        with world.store.forgetting(lambda row: row.is_closed):
            pass  # as if they had begun a moment later
        world.lifecycle.kill(HOUR_S)
        await trio.sleep(HOUR_S)
        await world.begun()
        await trio.sleep(10 * MINUTE_S)
        assert (world.not_stored(long), world.missing()) == (0, 0)
        assert any(row.is_closed for row in world.store.klines.values())


@pytest.mark.logs("gaps_unreadable")
async def test_a_damaged_file_of_known_gaps_costs_none(autojump_clock: MockClock) -> None:
    """Everything stored is scanned, and again by the next agent if this one is killed meanwhile."""
    async with _open_world(1) as world:
        lifecycle, faults = world.lifecycle, world.exchange.faults
        lifecycle.kill(6 * HOUR_S)
        await trio.sleep(6 * HOUR_S)
        await world.begun()
        with faults.hanging_rest("/fapi/v1/klines"):
            await trio.sleep(3 * HOUR_S)
            not_stored = world.not_stored()
            assert not_stored > 500
            lifecycle.kill(5)
            await trio.sleep(1)
        lifecycle.state.damage(f"{STATE}{GapFile.SUFFIX}", b"{")
        with world.store.offline():
            await world.begun()
            await trio.sleep(5 * MINUTE_S)
            lifecycle.kill(5)
            await trio.sleep(6)
        await world.begun()
        await trio.sleep(10 * MINUTE_S)
        assert (world.not_stored(), world.missing()) == (0, 0)
