"""Signals: SIGINT or SIGTERM stops the agent, a second one kills it; SIGHUP reloads it.

With a terminal SIGHUP says that the terminal is gone, and stops the agent like SIGTERM.
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

# `timeout`, shells and some supervisors signal a process and then its group: that counts once.
ONE_SIGNAL_S = 0.5

log = structlog.get_logger()


@define(eq=False)
class StopSignal:
    """Receives the signals to stop: the first ends `wait`, or the block if it comes before."""

    block: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """The scope of everything that a signal stops."""
    _received: trio.Event = field(factory=trio.Event, init=False)
    _is_awaited: bool = field(default=False, init=False)

    async def wait(self) -> None:
        """Wait for the first signal; from this call on the caller stops the agent in order."""
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
                    # The stop may hang in a shielded scope or a thread, so the process just exits.
                    os._exit(128 + number)
                log.info("stopping", signal=name)
                self._received.set()
                first_at = trio.current_time()
                if not self._is_awaited:
                    # The agent is still starting, and may wait for something that never comes. Rows
                    # that have arrived are drained all the same: the writer shields that.
                    self.block.cancel(reason=name)


@asynccontextmanager
async def open_stop_signal() -> AsyncIterator[StopSignal]:
    """Receive signals for the length of the block; the second ends the process at once."""
    stop = StopSignal()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.watch)
        with stop.block:
            yield stop
        nursery.cancel_scope.cancel(reason="nothing left to stop")


@asynccontextmanager
async def reloaded_by_signal(reload: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call `reload` for each SIGHUP during the block, one call after the other."""

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
