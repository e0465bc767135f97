"""Runs asyncio code from Trio, on a thread with an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import trio
from attrs import frozen

T = TypeVar("T")

# How long a cancelled call may take to end before it is abandoned.
CLEANUP_WITHIN_S = 5
# Before Python 3.12, `asyncio.wait_for` swallows a cancellation that arrives as its work ends.
CANCEL_EVERY_S = 0.1


@frozen
class AsyncioThread:
    """Runs coroutine functions on its loop, one task per call."""

    _loop: asyncio.AbstractEventLoop

    async def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
        """Run `function(*args)` on the asyncio loop, and return its result or raise its error.

        When this call is cancelled, the asyncio task is cancelled again and again until it ends,
        for a bounded time. So the function may be cancelled while it cleans up.
        """
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()
        tasks: list[asyncio.Task[T]] = []

        def finish(task: asyncio.Task[T]) -> None:
            # Retrieve the error even if no caller waits for it: asyncio logs unretrieved ones.
            _ = task.cancelled() or task.exception()
            with suppress(trio.RunFinishedError):  # then no caller is left
                token.run_sync_soon(done.set)

        def start() -> None:
            tasks.append(self._loop.create_task(function(*args)))
            tasks[0].add_done_callback(finish)

        def cancel() -> None:
            tasks[0].cancel()  # callbacks run in order, so `start` has run

        self._loop.call_soon_threadsafe(start)
        try:
            await done.wait()
        finally:
            if not done.is_set():
                with trio.move_on_after(CLEANUP_WITHIN_S, shield=True):
                    while not done.is_set():
                        self._loop.call_soon_threadsafe(cancel)
                        with trio.move_on_after(CANCEL_EVERY_S):
                            await done.wait()
        return tasks[0].result()


@asynccontextmanager
async def open_asyncio_thread(name: str) -> AsyncIterator[AsyncioThread]:
    """Start a thread called `name`; on exit, cancel what still runs on its loop."""
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    loop = runner.get_loop()
    stop = asyncio.Event()

    def serve() -> None:
        with runner:
            runner.run(_wait_for(stop))

    # A daemon: a library that hangs in its cleanup must not keep the process alive.
    thread = threading.Thread(target=serve, name=name, daemon=True)
    thread.start()
    try:
        yield AsyncioThread(loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        with trio.move_on_after(CLEANUP_WITHIN_S, shield=True):
            await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()
