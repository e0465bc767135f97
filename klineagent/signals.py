"""SIGINT and SIGTERM: the first asks to stop, the second does not ask."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

log = structlog.get_logger()


@asynccontextmanager
async def open_stop_signal() -> AsyncIterator[trio.Event]:
    """An event that the first signal sets; the second ends the process on the spot."""
    stop = trio.Event()

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if stop.is_set():
                    log.warning("exiting_now", signal=name)
                    # Whatever holds up the stop may be shielded, or a thread: nothing is asked.
                    os._exit(128 + number)
                log.info("stopping", signal=name)
                stop.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        yield stop
        nursery.cancel_scope.cancel(reason="nothing left to stop")
