"""Memory of an agent while its database is unreachable."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import pytest
import structlog
import trio
from attrs import define
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.storage.spool.disk import Files, Folder, translated_errors
from klineagent.testing.simulation import FEBRUARY_2026_MS, open_simulation
from klineagent.twin.market import random as random_market
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import HOUR_S

T = TypeVar("T")
SYMBOLS = 40
KEPT = 1024
"""What the twin remembers of each kind: more than it needs at a time, full within an hour."""


@define
class ThreadlessFolder:
    """A folder's real files, worked on right away: a virtual clock does not wait for threads."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        self.path.mkdir(exist_ok=True)
        await trio.lowlevel.checkpoint()
        yield

    async def run(self, work: Callable[[Files], T]) -> T:
        await trio.lowlevel.checkpoint()
        with translated_errors(self.label):
            return work(Folder(self.path).files)


@pytest.fixture
def _forgetful_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin's own memory would grow for days until it is full, and it is not the agent's."""
    monkeypatch.setattr(random_market, "_MINUTES_KEPT", KEPT)
    drawn = random_market._edge.__wrapped__
    monkeypatch.setattr(random_market, "_edge", lru_cache(maxsize=KEPT)(drawn))


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.usefixtures("_forgetful_twin")
async def test_memory_stays_flat_over_a_day_without_the_database(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """What is recorded goes to disk: 55 000 candles later the process is as large as before."""
    # The test's own log would grow.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    market = RandomMarket(symbols=SYMBOLS, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    symbols = [listing.symbol for listing in market.listings][:SYMBOLS]
    async with open_simulation(
        symbols=symbols,
        intervals=[Interval.M1],
        market=market,
        history=0,
        tick_ms=30 * MINUTE_MS,
        disk=ThreadlessFolder(tmp_path / "spool"),
    ) as simulation:
        await trio.sleep(HOUR_S)
        writer = simulation.agent.writer
        with simulation.store.offline():
            await trio.sleep(HOUR_S)
            before = _resident_bytes()
            await trio.sleep(23 * HOUR_S)
            after = _resident_bytes()
            assert writer.spool is not None
            assert writer.spool.rows > SYMBOLS * 24 * 59
            assert writer.rows_waiting < 3 * SYMBOLS
    assert after < 1.1 * before
