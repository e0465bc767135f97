"""Long work that leaves room for all other tasks: in portions, in a few tasks, in a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

# Less takes a few milliseconds, which is what a thread may cost; simulations stay below.
APART_FROM_BYTES = 256 * 1024

Item = TypeVar("Item")
Made = TypeVar("Made")


async def in_portions(
    make: Callable[[Item], Made], items: Iterable[Item], *, at_once: int
) -> list[Made]:
    """Return `make(item)` for each of `items`, with a checkpoint after every `at_once` items."""
    made = []
    for number, item in enumerate(items, start=1):
        made.append(make(item))
        if number % at_once == 0:
            await trio.lowlevel.checkpoint()
    return made


async def in_workers(
    function: Callable[[Item], Awaitable[None]], items: Iterable[Item], *, workers: int
) -> None:
    """Call `function` for each of `items`, in as many tasks as there are `workers`."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await function(item)

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)


async def apart(compute: Callable[[], Made], *, size: int) -> Made:
    """Return `compute()`, from a worker thread if it works on `size` bytes and these are many."""
    if size >= APART_FROM_BYTES:
        return await trio.to_thread.run_sync(compute)
    await trio.lowlevel.checkpoint()
    return compute()
