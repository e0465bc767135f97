"""Long answers are made in portions, so that everything else gets its turn in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

Item = TypeVar("Item")
Made = TypeVar("Made")


async def in_portions(
    make: Callable[[Item], Made], items: Iterable[Item], *, at_once: int
) -> list[Made]:
    """What `make` makes of each of `items`; others have their turn after every `at_once`."""
    made = []
    for number, item in enumerate(items, start=1):
        made.append(make(item))
        if number % at_once == 0:
            await trio.lowlevel.checkpoint()
    return made
