"""An agent's lives: it is started, stopped, killed, and started again on what was durable."""

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
from klineagent.proof.oracle import Witness
from klineagent.proof.plan import ProofFailed
from klineagent.storage.memory.disk import MemoryDisk, ProcessDied
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.store import AgentRow, Batch, SeriesRuns, SeriesSummary

# What starts it again does not do so at once.
RESTART_AFTER_S = 60.0


@define(eq=False, kw_only=True)
class Connection:
    """A process's way to the store, under a witness's eyes; it ends with the process."""

    store: MemoryStore
    witness: Witness
    failures: list[ProofFailed]
    is_cut: bool = False

    @property
    def label(self) -> str:
        """See `Store`."""
        return self.store.label

    async def prepare(self) -> None:
        """See `Store`."""
        self._check()
        await self.store.prepare()

    async def insert(self, batch: Batch) -> None:
        """See `Store`."""
        self._check()
        try:
            self.witness.examine(batch.klines)
        except ProofFailed as failure:
            self.failures.append(failure)
        await self.store.insert(batch)
        # The process may have died in between: then nobody has heard the answer.
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
class Life:
    """One agent after the other, on the same store and disk."""

    config: Config
    network: Network
    store: MemoryStore
    witness: Witness
    chance: random.Random
    lives: int = field(default=0, init=False)
    failures: list[ProofFailed] = field(factory=list, init=False)
    repairs: Counter[str] = field(factory=Counter, init=False)
    disk: MemoryDisk = field(factory=MemoryDisk, init=False)
    """With the spool."""
    state: MemoryDisk = field(factory=MemoryDisk, init=False)
    """With what should run, and what was known to be missing."""
    agent: Agent | None = field(default=None, init=False)
    started_at: float = field(default=-math.inf, init=False)
    """When the agent that lives was up, by Trio's clock."""
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _connection: Connection | None = field(default=None, init=False)
    _down_s: float = field(default=RESTART_AFTER_S, init=False)

    async def live(self) -> NoReturn:
        """Start an agent again and again, whenever the last one has ended."""
        while True:
            self.lives += 1
            self._scope, self._down_s = trio.CancelScope(), RESTART_AFTER_S
            self._connection = Connection(
                store=self.store, witness=self.witness, failures=self.failures
            )
            try:
                with self._scope:
                    await self._run(self._connection)
            except* (StartError, ProcessDied):
                # What started it tries again; what died does not matter any more.
                pass
            if self.agent is not None:
                self._account(self.agent)
            self.agent = None
            await trio.sleep(self._down_s)

    def stop(self, down_s: float) -> None:
        """Ask it to stop, as SIGTERM does; it is started again after a while."""
        self._down_s = down_s
        self._scope.cancel(reason="asked to stop")

    def kill(self, down_s: float) -> None:
        """End it as `kill -9` does: what it wrote is there, nothing more is done."""
        self._end(self.disk.kill(), self.state.kill(), down_s)

    def cut_power(self, down_s: float) -> None:
        """End it and its machine: what was not synced may be gone."""
        self._end(self.disk.crash(self.chance), self.state.crash(self.chance), down_s)

    def _end(self, disk: MemoryDisk, state: MemoryDisk, down_s: float) -> None:
        self.disk, self.state = disk, state
        if self._connection is not None:
            self._connection.is_cut = True
        self.stop(down_s)

    async def _run(self, connection: Connection) -> None:
        async with open_agent(
            self.config,
            network=self.network,
            store=connection,
            disk=self.disk,
            state=self.state,
        ) as self.agent:
            self.started_at = trio.current_time()
            await trio.sleep_forever()

    def _account(self, agent: Agent) -> None:
        counts = agent.registry.context.counts
        self.repairs += Counter(
            {
                "candles healed": counts.healed,
                "of these after a missed deadline": counts.missed,
                "requests for candles": counts.requests,
                "rows stored": agent.writer.stored,
            }
        )

    def account(self) -> None:
        """Count what the agent that lives now has done."""
        if self.agent is not None:
            self._account(self.agent)
