"""Signals: the first that asks to stop is heeded, the second does not ask; SIGHUP asks to reload.

Where there is a terminal, SIGHUP says that it is gone, and means the end like SIGINT and SIGTERM.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
import trio
from attrs import define, field

# `timeout`, a shell and some supervisors signal a process and then its group: that is one signal.
ONE_SIGNAL_S = 0.5

log = structlog.get_logger()


@define(eq=False)
class StopSignal:
    """The first signal: it ends `wait`, or the whole block while nobody has waited yet."""

    block: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Around everything that a signal stops."""
    _received: trio.Event = field(factory=trio.Event, init=False)
    _is_awaited: bool = field(default=False, init=False)

    async def wait(self) -> None:
        """Wait for the signal. What is running from here on stops by itself, in good order."""
        self._is_awaited = True
        await self._received.wait()

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Receive signals until cancelled."""
        with trio.open_signal_receiver(*_stopping()) as signals:
            task_status.started()
            first_at = -math.inf
            async for number in signals:
                name = signal.Signals(number).name
                if trio.current_time() - first_at < ONE_SIGNAL_S:
                    continue
                if self._received.is_set():
                    log.warning("exiting_now", signal=name)
                    # Whatever holds up the stop may be shielded, or a thread: nothing is asked.
                    os._exit(128 + number)
                log.info("stopping", signal=name)
                self._received.set()
                first_at = trio.current_time()
                if not self._is_awaited:
                    # Still starting, and perhaps waiting for something that is not there. Rows that
                    # have come by now are drained all the same: the writer shields that.
                    self.block.cancel(reason=name)


@asynccontextmanager
async def open_stop_signal() -> AsyncIterator[StopSignal]:
    """Listen for signals as long as the block lasts; the second ends the process on the spot."""
    stop = StopSignal()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.watch)
        with stop.block:
            yield stop
        nursery.cancel_scope.cancel(reason="nothing left to stop")


@asynccontextmanager
async def reloaded_by_signal(reload: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call `reload` at each SIGHUP as long as the block lasts, one after the other."""

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                await reload()

    async with trio.open_nursery() as nursery:
        if signal.SIGHUP not in _stopping():
            await nursery.start(watch)
        yield
        nursery.cancel_scope.cancel(reason="nothing left to reload")


def _stopping() -> list[signal.Signals]:
    asked = [signal.SIGINT, signal.SIGTERM]
    return [*asked, signal.SIGHUP] if sys.stderr.isatty() else asked
