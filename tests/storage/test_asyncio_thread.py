from __future__ import annotations

import asyncio
import threading

import pytest
import trio

from klineagent.storage import asyncio_thread
from klineagent.storage.asyncio_thread import open_asyncio_thread


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
    """A cancel arrives once over there, and its cleanup is over when the call is."""
    log = []
    running = threading.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # noqa: ASYNC102 - asyncio cancels once
            log.append("cleaned up")
            raise

    async with open_asyncio_thread("test") as thread, trio.open_nursery() as nursery:
        nursery.start_soon(thread.run, work)
        await trio.to_thread.run_sync(running.wait)
        nursery.cancel_scope.cancel()
    assert log == ["cleaned up"]


async def test_cleanup_without_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that refuses to end holds up its caller for a bounded time only."""
    monkeypatch.setattr(asyncio_thread, "CLEANUP_WITHIN_S", 0.05)
    release = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # noqa: ASYNC103 - the misbehaviour under test
            await release.wait()  # noqa: ASYNC102 - same

    async def let_go() -> None:
        await asyncio.sleep(0)
        release.set()

    async with open_asyncio_thread("test") as thread:
        with trio.fail_after(2), trio.move_on_after(0.01) as scope:
            await thread.run(stubborn)
        assert scope.cancelled_caught
        await thread.run(let_go)


async def test_thread_ends_with_the_block() -> None:
    """Leaving stops the loop and joins the thread, whatever still ran there."""
    async with open_asyncio_thread("to be gone") as thread:
        with trio.CancelScope() as scope:
            scope.cancel()
            await thread.run(asyncio.sleep, 3600)
    assert "to be gone" not in {thread.name for thread in threading.enumerate()}
