"""Faults are active while a block lasts, each with its own dice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from attrs import define, field

from klineagent.twin.faults.events import Chance

_Active = TypeVar("_Active")


@define(kw_only=True, eq=False)
class FaultBlocks:
    """Counts the blocks of each kind of fault, and what they struck."""

    seed: int
    injected: Counter[str] = field(init=False, factory=Counter)
    """How often each kind has struck, by method name."""
    _serial: Iterator[int] = field(init=False, factory=count)
    _begun: Counter[str] = field(init=False, factory=Counter)

    def chance(self, kind: str, share: float) -> Chance:
        """Make the dice of one block from the seed, the kind and the number of its blocks."""
        if not 0 <= share <= 1:
            raise ValueError(f"a share is a number from 0 to 1, not {share}")
        dice = random.Random(self._next_block(kind))  # noqa: S311 - no secret
        return Chance(kind=kind, share=share, dice=dice, injected=self.injected)

    def _next_block(self, kind: str) -> str:
        """Return the name of a new block, which is the same in every run of that seed."""
        self._begun[kind] += 1
        return f"{self.seed}/{kind}/{self._begun[kind]}"

    @contextmanager
    def _during(self, active: dict[int, _Active], item: _Active) -> Iterator[None]:
        """Keep `item` among `active` while the block lasts."""
        number = next(self._serial)
        active[number] = item
        try:
            yield
        finally:
            del active[number]
