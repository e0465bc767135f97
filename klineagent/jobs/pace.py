"""The pace of what an agent does beside recording: recording has the first claim to everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from klineagent.storage.writing.writer import Writer

# How late a task may be woken before the loop counts as busy.
LATE_S = 0.02
TICK_S = 0.05
# A row waits for one flush interval at most, and the insert takes the rest.
FLUSH_INTERVALS = 2
# On a machine that is always late a job must still end some day.
LONGEST_REST_S = 10.0
LOOK_AGAIN_AFTER_S = 1.0


@define(kw_only=True, eq=False)
class JobPace:
    """Gives turns, one at a time, between rests that are at least as long as the turns.

    A rest lasts longer while the event loop is late or rows are stored late. There is no turn while
    the store is away, or rows wait in the spool.
    """

    writer: Writer
    waits: Callable[[str], None]
    """Takes the reason why there is no turn; empty when there is one."""
    _one: trio.Lock = field(factory=trio.Lock, init=False)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; after the block comes its rest."""
        async with self._one:
            await self._until_free()
            began_at = trio.current_time()
            yield
            await self._rest(trio.current_time() - began_at)

    def obstacle(self) -> str:
        """Return why there is no turn now; empty if there is one."""
        if not self.writer.inserter.is_up:
            return f"the database takes no rows: {self.writer.inserter.error}"
        spool = self.writer.spool
        if spool is not None and not spool.is_empty:
            return f"{spool.rows} recorded rows wait in the spool, and go first"
        return ""

    async def _until_free(self) -> None:
        while reason := self.obstacle():
            self.waits(reason)
            await trio.sleep(LOOK_AGAIN_AFTER_S)
        self.waits("")

    async def _rest(self, took_s: float) -> None:
        """Rest for `took_s`, and then until recording keeps up, within `LONGEST_REST_S`."""
        ends_at = trio.current_time() + took_s
        while True:
            asked_at = trio.current_time()
            await trio.sleep(TICK_S)
            now = trio.current_time()
            is_busy = now - asked_at - TICK_S > LATE_S or self._is_behind(now)
            if now >= ends_at + (LONGEST_REST_S if is_busy else 0):
                return

    def _is_behind(self, now: float) -> bool:
        stored_to = self.writer.watermark.stored_to
        if stored_to is None or not self.writer.rows_waiting:
            return False
        return now - stored_to > FLUSH_INTERVALS * self.writer.flush_interval_s
