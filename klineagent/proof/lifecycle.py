"""The process lifecycle: an agent is started, stopped, killed and restarted on durable state."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NoReturn

import trio
from attrs import define, field

from klineagent.agent import Agent, open_agent
from klineagent.config.model import Config
from klineagent.core.errors import StartError, StoreUnavailable
from klineagent.core.interval import Run
from klineagent.core.kline import Kline
from klineagent.exchange.network import Network
from klineagent.proof.listening import ProofListener
from klineagent.proof.oracle import Oracle
from klineagent.proof.plan import ProofFailed
from klineagent.proof.reading import ProofReader
from klineagent.storage.memory.disk import MemoryDisk, ProcessDied
from klineagent.storage.memory.history import MemoryHistory
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.reader import KlineRange, Reader
from klineagent.storage.store import AgentRow, Batch, SeriesRuns, SeriesSummary

# A service manager does not restart it at once.
RESTART_AFTER_S = 60.0


@define(eq=False, kw_only=True)
class ProcessStore:
    """One process's view of the store: inserts are examined, and calls fail once it has died."""

    store: MemoryStore
    oracles: Mapping[str, Oracle]
    """By venue."""
    failures: list[ProofFailed]
    is_cut: bool = False
    snapshots: None = None

    @property
    def label(self) -> str:
        """See `Store`."""
        return self.store.label

    @property
    def history(self) -> MemoryHistory:
        """See `Store`."""
        return self.store.history

    @property
    def reader(self) -> Reader:
        """See `Store`."""
        return Reader(self._read_range)

    async def _read_range(self, wanted: KlineRange, most: int) -> list[Kline]:
        self._check()
        return await self.store.read_range(wanted, most)

    async def prepare(self) -> None:
        """See `Store`."""
        self._check()
        await self.store.prepare()

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        self._check()
        try:
            for venue, oracle in self.oracles.items():
                oracle.examine([kline for kline in batch.klines if kline.venue == venue])
        except ProofFailed as failure:
            self.failures.append(failure)
        await self.store.insert(batch)
        # The process may have died in between, so that it never got the answer.
        self._check()

    async def record_agent(self, row: AgentRow) -> None:
        """See `Store`."""
        self._check()
        await self.store.record_agent(row)

    async def summary(self) -> list[SeriesSummary]:
        """See `Store`."""
        self._check()
        return await self.store.summary()

    async def final_klines(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        self._check()
        return await self.store.final_klines(venue, symbol, interval, newest=newest)

    async def final_kline(
        self, venue: str, symbol: str, interval: str, open_time: int
    ) -> Kline | None:
        """See `Store`."""
        self._check()
        return await self.store.final_kline(venue, symbol, interval, open_time)

    async def highest_ranks(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> Mapping[int, int]:
        """See `Store`."""
        self._check()
        return await self.store.highest_ranks(venue, symbol, interval, first_ms, end_ms)

    async def coverage(
        self, venue: str, since: Mapping[str, int], symbols: Collection[str]
    ) -> list[SeriesRuns]:
        """See `Store`."""
        self._check()
        return await self.store.coverage(venue, since, symbols)

    async def stored_runs(
        self, venue: str, symbol: str, interval: str, first_ms: int, end_ms: int
    ) -> tuple[Run, ...]:
        """See `Store`."""
        self._check()
        return await self.store.stored_runs(venue, symbol, interval, first_ms, end_ms)

    async def updates(
        self, venue: str, symbol: str, interval: str, *, newest: int | None = None
    ) -> list[Kline]:
        """See `Store`."""
        self._check()
        return await self.store.updates(venue, symbol, interval, newest=newest)

    def _check(self) -> None:
        if self.is_cut:
            raise StoreUnavailable("the process is dead")


@define(eq=False, kw_only=True)
class Lifecycle:
    """Runs one agent after the other on the same store and disks."""

    config: Config
    network: Network
    store: MemoryStore
    oracles: Mapping[str, Oracle]
    """By venue."""
    readers: Collection[ProofReader | ProofListener] = ()
    chance: random.Random
    starts: int = field(default=0, init=False)
    failures: list[ProofFailed] = field(factory=list, init=False)
    repairs: Counter[str] = field(factory=Counter, init=False)
    disk: MemoryDisk = field(factory=MemoryDisk, init=False)
    """The disk with the spool."""
    state: MemoryDisk = field(factory=MemoryDisk, init=False)
    """The disk with the desired set and the known gaps."""
    agent: Agent | None = field(default=None, init=False)
    started_at: float = field(default=-math.inf, init=False)
    """When the running agent had started, by Trio's clock."""
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _process_store: ProcessStore | None = field(default=None, init=False)
    _down_s: float = field(default=RESTART_AFTER_S, init=False)

    async def run(self) -> NoReturn:
        """Run agents for ever, each after the last one has ended."""
        while True:
            self.starts += 1
            self._scope, self._down_s = trio.CancelScope(), RESTART_AFTER_S
            self._process_store = ProcessStore(
                store=self.store, oracles=self.oracles, failures=self.failures
            )
            try:
                with self._scope:
                    await self._run(self._process_store)
            except* (StartError, ProcessDied):
                # A service manager would restart it, whatever it died of.
                pass
            if self.agent is not None:
                self._account(self.agent)
            self.agent = None
            await trio.sleep(self._down_s)

    def stop(self, down_s: float) -> None:
        """Stop the agent as SIGTERM does; it is restarted after `down_s`."""
        self._down_s = down_s
        self._scope.cancel(reason="asked to stop")

    def kill(self, down_s: float) -> None:
        """Kill the agent as `kill -9` does: written files remain, nothing else is done."""
        self._end(self.disk.kill(), self.state.kill(), down_s)

    def cut_power(self, down_s: float) -> None:
        """Cut the machine's power: files that were not synced may be lost."""
        self._end(self.disk.crash(self.chance), self.state.crash(self.chance), down_s)

    def _end(self, disk: MemoryDisk, state: MemoryDisk, down_s: float) -> None:
        self.disk, self.state = disk, state
        if self._process_store is not None:
            self._process_store.is_cut = True
        self.stop(down_s)

    async def _run(self, connection: ProcessStore) -> None:
        async with open_agent(
            self.config,
            network=self.network,
            store=connection,
            disk=self.disk,
            state=self.state,
        ) as self.agent:
            self.started_at = trio.current_time()
            async with trio.open_nursery() as reading:
                for reader in self.readers:
                    reading.start_soon(self._read, reader, self.agent)
                await trio.sleep_forever()

    async def _read(self, reader: ProofReader | ProofListener, agent: Agent) -> None:
        try:
            await reader.read(agent)
        except ProofFailed as failure:
            self.failures.append(failure)

    def _account(self, agent: Agent) -> None:
        for counts in (each.context.counts for each in agent.venues):
            self.repairs["candles fetched"] += counts.healed
            self.repairs["of these after a missed deadline"] += counts.missed
            self.repairs["requests for candles"] += counts.requests
        self.repairs["rows stored"] += agent.writer.stored

    def account(self) -> None:
        """Add the counts of the running agent to `repairs`."""
        if self.agent is not None:
            self._account(self.agent)
