"""Asking an agent's status server how it is, from outside, again and again."""

from __future__ import annotations

from typing import NoReturn

import httpx2
import trio
from attrs import define, field

from klineagent.kline import SECOND_MS

EVERY_S = 0.05
_PATIENCE_S = 10


@define(eq=False)
class Pings:
    """How long each answer has taken."""

    took_ms: list[float] = field(factory=list, init=False)

    async def run(self, address: str) -> NoReturn:
        """Ask at fixed moments, over one connection, until cancelled."""
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=_PATIENCE_S, trust_env=False
        ) as client:
            due = trio.current_time()
            while True:
                asked_at = trio.current_time()
                (await client.get("/ping")).raise_for_status()
                self.took_ms.append((trio.current_time() - asked_at) * SECOND_MS)
                due += EVERY_S
                await trio.sleep_until(due)
