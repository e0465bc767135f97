"""The proof of several venues in one agent, and that it notices when one suffers from another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from klineagent.exchange.budget import WeightBudget, WeightPool, WeightPools
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.venues import Venue
from klineagent.proof.plan import ProofFailed, ProofPlan
from klineagent.proof.run import prove
from klineagent.proof.schedule import KINDS
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import Batch

VENUES = ("usdm", "spot", "coinm")


@contextmanager
def budgets_apart() -> Iterator[None]:
    """Let each venue spend as if no other shared its weight."""

    @contextmanager
    def budget(self: WeightPools, venue: Venue, time: ExchangeTime) -> Iterator[WeightBudget]:
        pool = WeightPool(venue.name, venue.weight_per_minute)
        self._nursery.start_soon(pool.keep_time)
        yield pool.join(time)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightPools, "budget", budget)
        patch.setattr(WeightPool, "report_used", lambda self, used: self.turn_minute())
        yield


@contextmanager
def waiting_for_the_others() -> Iterator[None]:
    """Insert a batch half a minute late once a venue has had no rows for three minutes."""
    insert, heard = MemoryStore.insert, dict[str, float]()

    async def wait_and_insert(self: MemoryStore, batch: Batch) -> None:
        now = trio.current_time()
        heard.update((kline.venue, now) for kline in batch.klines)
        if now - min(heard.values(), default=now) > 180:
            await trio.sleep(30)
        await insert(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "insert", wait_and_insert)
        yield


@pytest.mark.parametrize("seed", [1, 2])
def test_an_agent_that_records_three_venues_passes(seed: int) -> None:
    """Under all faults; while only one venue is struck, candles of the others come in time."""
    report = prove(ProofPlan(seed=seed, days=0.4, symbols=1, kinds=KINDS, venues=VENUES))
    assert report.by_venue.keys() == set(VENUES)
    assert min(report.by_venue.values()) > 1_000
    assert min(report.in_time[name] for name in VENUES) > 100


def test_weight_of_a_pool_that_is_spent_twice_is_caught() -> None:
    """Both futures venues fetch their histories at once, each with four fifths of the weight."""
    plan = ProofPlan(seed=2, days=0.005, symbols=60, kinds=(), venues=("usdm", "coinm"))
    with budgets_apart(), pytest.raises(ProofFailed, match="weight was used in a minute"):
        prove(plan)


def test_a_venue_that_waits_for_another_is_caught() -> None:
    """Nothing is lost by it, but it is late."""
    kinds = ("offline", "stalling")
    plan = ProofPlan(seed=1, days=0.3, symbols=1, kinds=kinds, pause_s=3_600, venues=VENUES)
    with waiting_for_the_others(), pytest.raises(ProofFailed, match="is late, though only another"):
        prove(plan)
