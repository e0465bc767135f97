"""After any sequence of calls, faults and crashes, exactly what was kept is there."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, nullcontext
from queue import SimpleQueue
from random import Random
from typing import TypeVar

import pytest
import trio
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from klineagent.core.errors import SpoolBroken, SpoolFull
from klineagent.storage.memory.disk import MemoryDisk, ProcessDied, Step
from klineagent.storage.spool.segment import Contents
from klineagent.storage.spool.spool import Spool, open_spool
from klineagent.storage.store import Batch, Table
from tests.storage.spools import NO_LIMIT, candles, dead_letters, drained, updates

T = TypeVar("T")

seeds = st.integers(0, 2**32)
makers = st.sampled_from([candles, updates])
rows = st.integers(1, 4)
faults = st.sampled_from(["full", Step.WRITE, Step.SYNC, Step.RENAME, Step.SYNC_FOLDER])
# A little more than a segment takes: create, two halves, sync, rename, sync of the folder.
steps = st.integers(0, 7)
# What becomes of it: the power fails in one of many ways, or only the process ends.
deaths = st.one_of(seeds, st.none())


@define(eq=False)
class TrioThread:
    """A run of Trio that lasts longer than a call."""

    _token: trio.lowlevel.TrioToken = field(init=False)
    _stop: trio.Event = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        ready: SimpleQueue[tuple[trio.lowlevel.TrioToken, trio.Event]] = SimpleQueue()

        async def wait() -> None:
            stop = trio.Event()
            ready.put((trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

        self._thread = threading.Thread(target=trio.run, args=(wait,))
        self._thread.start()
        self._token, self._stop = ready.get()

    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Call `function` over there."""
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def close(self) -> None:
        """End the run."""
        self._token.run_sync_soon(self._stop.set)
        self._thread.join()


async def _all_in(disk: MemoryDisk) -> tuple[list[Batch], list[Contents]]:
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        assert [path for path in disk.paths if path.endswith(".tmp")] == []
        found = await drained(spool)
        assert spool.damaged == 0
        return found, dead_letters(disk)


class SpoolMachine(RuleBasedStateMachine):
    """A spool, with the batches it must and those it may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.trio = TrioThread()
        self.disk = MemoryDisk()
        self.number = 0
        self.kept: list[Batch] = []
        """Appended and not acknowledged."""
        self.possible: set[Batch] = set()
        """Unknown."""
        self.acknowledged: set[Batch] = set()
        """Gone, unless the power fails."""
        self.dead: list[Contents] = []
        self.possibly_dead: list[Contents] = []
        self.open()

    def open(self) -> None:
        self.stack = AsyncExitStack()
        self.spool: Spool = self.trio.run(
            self.stack.enter_async_context, open_spool(self.disk, limit_bytes=NO_LIMIT)
        )

    def new_batch(self, make: Callable[[int, int], Batch], rows: int) -> Batch:
        self.number += 1
        return make(self.number, rows)

    def reopen(self, disk: MemoryDisk) -> None:
        self.trio.run(self.stack.aclose)
        self.disk = disk
        self.open()

    def next_disk(self, death: int | None) -> MemoryDisk:
        if death is None:
            return self.disk.kill()
        self.possible |= self.acknowledged
        self.acknowledged.clear()
        return self.disk.crash(Random(death))

    @rule(make=makers, rows=rows)
    def append(self, make: Callable[[int, int], Batch], rows: int) -> None:
        batch = self.new_batch(make, rows)
        self.trio.run(self.spool.append, batch)
        self.kept.append(batch)

    @rule(make=makers, rows=rows)
    def set_aside(self, make: Callable[[int, int], Batch], rows: int) -> None:
        batch = self.new_batch(make, rows)
        self.trio.run(self.spool.set_aside, batch, "no")
        self.dead.append(Contents(batch, "no"))

    @rule(make=makers, rows=rows, fault=faults, aside=st.booleans(), lasting=st.booleans())
    def fail(
        self,
        make: Callable[[int, int], Batch],
        rows: int,
        fault: Step | str,
        aside: bool,
        lasting: bool,
    ) -> None:
        """The disk fails, and may then be unable to remove what was given up."""
        batch = self.new_batch(make, rows)
        faulty = self.disk.failing(fault) if isinstance(fault, Step) else self.disk.full()
        stuck = self.disk.failing(Step.UNLINK) if lasting else nullcontext()
        with faulty, stuck:
            try:
                self.keep(batch, aside=aside)
            except (SpoolFull, SpoolBroken):
                pass
            else:
                raise AssertionError("it was not noticed")

    @rule(make=makers, rows=rows, aside=st.booleans(), steps=steps, death=deaths)
    def die_keeping(
        self,
        make: Callable[[int, int], Batch],
        rows: int,
        aside: bool,
        steps: int,
        death: int | None,
    ) -> None:
        """The end comes within an append, or just after it."""
        batch = self.new_batch(make, rows)
        self.disk.die_after(steps)
        try:
            self.keep(batch, aside=aside)
        except ProcessDied:
            pass
        else:
            if aside:
                self.dead.append(self.possibly_dead.pop())
            else:
                self.possible.remove(batch)
                self.kept.append(batch)
        self.reopen(self.next_disk(death))

    def keep(self, batch: Batch, *, aside: bool) -> None:
        if aside:
            self.possibly_dead.append(Contents(batch, "perhaps"))
            self.trio.run(self.spool.set_aside, batch, "perhaps")
        else:
            self.possible.add(batch)
            self.trio.run(self.spool.append, batch)

    @rule()
    def deliver(self) -> None:
        segment = self.trio.run(self.spool.oldest)
        if segment is None:
            assert self.kept == []
            return
        if segment.batch in self.possible:
            self.possible.remove(segment.batch)
        else:
            assert segment.batch == self.in_order()[0]
            self.kept.remove(segment.batch)
        self.acknowledged.add(segment.batch)
        self.trio.run(self.spool.acknowledge, segment)

    @rule(steps=st.integers(0, 8), death=deaths)
    def die_opening(self, steps: int, death: int | None) -> None:
        """The end comes while the next process starts."""
        disk = self.next_disk(death)
        disk.die_after(steps)
        self.trio.run(self.stack.aclose)
        self.disk = disk
        try:
            self.open()
        except ProcessDied:
            self.disk = disk.kill() if death is None else disk.crash(Random(death + 1))
            self.open()
        else:
            self.reopen(disk.kill())

    @rule(death=deaths)
    def die(self, death: int | None) -> None:
        self.reopen(self.next_disk(death))

    @rule()
    def restart(self) -> None:
        self.reopen(self.disk)

    @rule()
    def refresh(self) -> None:
        self.trio.run(self.spool.refresh)

    @rule(seed=seeds)
    def write_back(self, seed: int) -> None:
        self.disk.write_back(Random(seed))

    def in_order(self) -> list[Batch]:
        return sorted(self.kept, key=lambda batch: batch.table is Table.UPDATES)

    @invariant()
    def what_was_kept_is_there(self) -> None:
        """In order, exact, with nothing invented; now, if killed, and if the power failed."""
        random = Random(self.number)
        for disk, gone in (
            (self.disk.copy(), self.acknowledged),
            (self.disk.copy().crash(random), set[Batch]()),
            (self.disk.copy().crash(random), set[Batch]()),
        ):
            found, dead = self.trio.run(_all_in, disk)
            assert len(set(found)) == len(found)
            assert gone.isdisjoint(found)
            uncertain = self.possible | self.acknowledged
            assert [batch for batch in found if batch not in uncertain] == self.in_order()
            assert [each for each in dead if each not in self.possibly_dead] == self.dead

    def teardown(self) -> None:
        self.trio.run(self.stack.aclose)
        self.trio.close()


TestSpoolCrashes = pytest.mark.slow(SpoolMachine.TestCase)
TestSpoolCrashes.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
