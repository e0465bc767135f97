from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import trio

from klineagent.storage.clickhouse import asyncio_thread
from klineagent.storage.clickhouse.asyncio_thread import open_asyncio_thread


async def test_results_and_errors_come_back() -> None:
    """A call returns what its coroutine returned and raises what it raised."""

    async def divide(a: int, b: int) -> float:
        await asyncio.sleep(0)
        return a / b

    async with open_asyncio_thread("test") as thread:
        assert await thread.run(divide, 6, 3) == 2
        with pytest.raises(ZeroDivisionError):
            await thread.run(divide, 1, 0)


async def test_calls_run_side_by_side() -> None:
    """One call may wait for what another one does."""
    async with open_asyncio_thread("test") as thread:
        event = asyncio.Event()

        async def set_it() -> None:
            await asyncio.sleep(0)
            event.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run, event.wait)
            nursery.start_soon(thread.run, set_it)


async def test_cancelled_call_ends_before_its_caller() -> None:
    """When a cancelled call returns, its asyncio task has ended."""
    tasks: list[asyncio.Task[None] | None] = []
    running = threading.Event()

    async def work() -> None:
        tasks.append(asyncio.current_task())
        running.set()
        await asyncio.Event().wait()

    async with open_asyncio_thread("test") as thread, trio.open_nursery() as nursery:
        nursery.start_soon(thread.run, work)
        await trio.to_thread.run_sync(running.wait)
        nursery.cancel_scope.cancel()
    [task] = tasks
    assert task is not None
    assert task.cancelled()


async def swallow_cancellations(number: int) -> None:
    """Wait for ever, but let that many cancellations pass, as `asyncio.wait_for` may."""
    for _ in range(number):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


async def test_swallowed_cancellation_is_repeated() -> None:
    """A call that swallows the first cancellation gets the next."""
    async with open_asyncio_thread("test") as thread:
        with trio.fail_after(2), trio.move_on_after(0.01) as scope:
            await thread.run(swallow_cancellations, 2)
    assert scope.cancelled_caught


async def test_call_without_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that refuses to end holds up its caller for a bounded time only."""
    monkeypatch.setattr(asyncio_thread, "CLEANUP_WITHIN_S", 0.25)
    async with open_asyncio_thread("test") as thread:
        with trio.fail_after(2), trio.move_on_after(0.01) as scope:
            await thread.run(swallow_cancellations, 3)
    assert scope.cancelled_caught


async def test_thread_ends_with_the_block() -> None:
    """On exit the loop stops and the thread ends, whatever still ran there."""
    async with open_asyncio_thread("to be gone") as thread:
        with trio.CancelScope() as scope:
            scope.cancel()
            await thread.run(asyncio.sleep, 3600)
    assert "to be gone" not in {thread.name for thread in threading.enumerate()}
