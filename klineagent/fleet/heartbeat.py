"""The agent's heartbeat: its row in table `agents`, by which a fleet manager sees it is alive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn, Protocol

import trio

from klineagent.core.address import Bind
from klineagent.core.errors import StoreError
from klineagent.core.retry import Trouble
from klineagent.storage.store import AgentRow


class AgentLoad(Protocol):
    """The load of an agent, as its row reports it."""

    def count(self) -> int:
        """Return the number of live (symbol, interval) subscriptions."""

    def symbols(self) -> list[str]:
        """Return their symbols."""


class Agents(Protocol):
    """The part of a `Store` that holds table `agents`."""

    async def record_agent(self, row: AgentRow) -> None:
        """Make `row` the only live row of its (ip, port).

        Raises:
            StoreError: the row could not be written.
        """


async def beat(store: Agents, agent: Bind, load: AgentLoad, *, every_s: float) -> NoReturn:
    """Write the row of `agent`, its command address, now and every `every_s` seconds.

    A failure is logged, and the next beat tries again.
    """
    trouble = Trouble("heartbeat_failed", "heartbeat_recovered")
    while True:
        row = AgentRow(
            ip=agent.host,
            port=agent.port,
            connection_count=load.count(),
            assigned_symbol_count=len(load.symbols()),
            last_heartbeat=datetime.now(UTC),
        )
        try:
            await store.record_agent(row)
        except StoreError as error:
            trouble.lasts(error)
        else:
            trouble.over()
        await trio.sleep(every_s)
