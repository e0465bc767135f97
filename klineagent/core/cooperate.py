"""Long computations in portions, with checkpoints in between for all other tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

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
