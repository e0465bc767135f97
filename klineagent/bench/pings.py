"""Repeated requests for `/ping` on an agent's status server."""

from __future__ import annotations

from typing import NoReturn

import httpx2
import trio
from attrs import define, field

from klineagent.bench.child import BenchFailed
from klineagent.core.errors import reason_of
from klineagent.core.interval import SECOND_MS

EVERY_S = 0.05
_PATIENCE_S = 10


@define(eq=False)
class Pings:
    """Requests `/ping` at fixed times and notes how long each answer takes."""

    took_ms: list[float] = field(factory=list, init=False)

    async def run(self, address: str) -> NoReturn:
        """Send requests over one connection until cancelled.

        Raises:
            BenchFailed: the agent did not answer, or with an error.
        """
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=_PATIENCE_S, trust_env=False
        ) as client:
            due = trio.current_time()
            while True:
                asked_at = trio.current_time()
                await _ask(client)
                self.took_ms.append((trio.current_time() - asked_at) * SECOND_MS)
                due += EVERY_S
                await trio.sleep_until(due)


async def _ask(client: httpx2.AsyncClient) -> None:
    try:
        (await client.get("/ping")).raise_for_status()
    except httpx2.TimeoutException as error:
        raise BenchFailed(f"the agent did not answer /ping within {_PATIENCE_S} s") from error
    except httpx2.HTTPError as error:
        raise BenchFailed(f"the agent did not answer /ping: {reason_of(error)}") from error
