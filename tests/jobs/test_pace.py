"""Turns of jobs, on a virtual clock: recording goes first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.jobs.pace import LONGEST_REST_S, JobPace
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.writing.writer import Writer, open_writer
from tests.klines import a_kline


@define
class Waits:
    """What a pace has told."""

    reasons: list[str] = field(factory=list)

    def __call__(self, reason: str) -> None:
        if reason and reason not in self.reasons:
            self.reasons.append(reason)


@asynccontextmanager
async def paced(store: MemoryStore) -> AsyncIterator[tuple[JobPace, Writer, Waits]]:
    """A pace beside a writer, and what it tells."""
    waits = Waits()
    async with open_writer(
        store, flush_interval_s=1, batch_rows=100, capacity_rows=1000, drain_timeout_s=1
    ) as writer:
        yield JobPace(writer=writer, waits=waits), writer, waits


async def test_a_rest_is_as_long_as_its_turn(autojump_clock: MockClock) -> None:
    """Turns are one at a time, whoever asks."""
    ended: list[float] = []

    async def work(pace: JobPace) -> None:
        async with pace.turn():
            await trio.sleep(2)
        ended.append(trio.current_time())

    async with paced(MemoryStore()) as (pace, _, _):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, pace)
            nursery.start_soon(work, pace)
    assert [round(each - began) for each in ended] == [4, 8]


async def test_there_is_no_turn_while_the_store_is_away(autojump_clock: MockClock) -> None:
    """The reason is told; the turn comes with the store."""
    store = MemoryStore()
    async with paced(store) as (pace, writer, waits), trio.open_nursery() as nursery:
        with store.offline():
            await writer.klines.send([a_kline()])
            await trio.sleep(5)

            async def work() -> None:
                async with pace.turn():
                    assert writer.inserter.is_up

            nursery.start_soon(work)
            await trio.sleep(30)
            assert waits.reasons[0].startswith("the database takes no rows: ")


async def test_a_rest_lasts_until_rows_are_stored_in_time(autojump_clock: MockClock) -> None:
    """But not for ever: a machine that is always late ends a job some day."""
    store = MemoryStore()
    async with paced(store) as (pace, writer, _):
        await writer.klines.send([a_kline()])
        await trio.sleep(2)
        for late_s, rested_s in ((5, 3.0), (60, LONGEST_REST_S)):
            with store.slow(late_s):
                await writer.klines.send([a_kline()])
                await trio.sleep(2)
                began = trio.current_time()
                async with pace.turn():
                    pass
                assert trio.current_time() - began >= rested_s
                assert trio.current_time() - began <= LONGEST_REST_S + 1
            await trio.sleep(70)
