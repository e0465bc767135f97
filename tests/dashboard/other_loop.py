"""A Trio loop in a thread of its own, for tests whose own thread waits for a browser."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import TypeVar

import trio
from attrs import define, frozen

T = TypeVar("T")


@frozen
class OtherLoop:
    """Runs functions and blocks of the loop for the thread of the test."""

    _token: trio.lowlevel.TrioToken
    _blocks: trio.Nursery
    _over: trio.Event

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a sync function there."""
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def run(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run an async function there to its end."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    @contextmanager
    def during(self, block: AbstractContextManager[T]) -> Iterator[T]:
        """Enter `block` there, and leave it there when this one ends."""
        entered = self.call(block.__enter__)
        try:
            yield entered
        finally:
            self.call(block.__exit__, None, None, None)

    @contextmanager
    def running(self, block: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Keep the async `block` entered there while this one lasts."""
        leave, left = trio.Event(), trio.Event()

        async def hold(task_status: trio.TaskStatus[T]) -> None:
            async with block as value:
                task_status.started(value)
                await leave.wait()
            left.set()

        value = self.run(self._blocks.start, hold)
        try:
            yield value
        finally:
            self.call(leave.set)
            self.run(left.wait)

    def end(self) -> None:
        """Let the loop end, once its blocks have."""
        self.call(self._over.set)


@define(eq=False)
class _Outcome:
    loop: OtherLoop | None = None
    error: BaseException | None = None


@contextmanager
def open_other_loop() -> Iterator[OtherLoop]:
    """Run a loop while the block lasts; an error of a task of its own is raised at the end."""
    outcome, begun = _Outcome(), threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as blocks:
            over = trio.Event()
            outcome.loop = OtherLoop(trio.lowlevel.current_trio_token(), blocks, over)
            begun.set()
            await over.wait()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
            outcome.error = error

    thread = threading.Thread(target=run, name="other loop")
    thread.start()
    begun.wait()
    assert outcome.loop is not None
    try:
        yield outcome.loop
        outcome.loop.end()
    except (trio.RunFinishedError, trio.Cancelled):
        pass  # the loop's own error says why
    finally:
        thread.join()
    if outcome.error is not None:
        raise outcome.error
