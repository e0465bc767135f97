"""Long answers are made in portions, so that everything else gets its turn in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

Item = TypeVar("Item")
Told = TypeVar("Told")


async def in_portions(
    make: Callable[[Item], Told], items: Iterable[Item], *, at_once: int
) -> list[Told]:
    """What `make` makes of each of `items`; others have their turn after every `at_once`."""
    told = []
    for number, item in enumerate(items, start=1):
        told.append(make(item))
        if number % at_once == 0:
            await trio.lowlevel.checkpoint()
    return told
