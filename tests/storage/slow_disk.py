"""A disk that is slow, for what happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio
from attrs import define

from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.spool.disk import Files, translated_errors

T = TypeVar("T")


@define(eq=False, kw_only=True)
class SlowDisk(MemoryDisk):
    """A disk that takes a while for each call, which cannot be cancelled: a thread has it."""

    takes_s: float = 0.3

    async def run(self, work: Callable[[Files], T]) -> T:
        """See `Disk`."""
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            await trio.sleep(self.takes_s)
        with translated_errors(self.label):
            return work(self)
