"""How often a fault strikes."""

from __future__ import annotations

import random
from collections import Counter

from attrs import define


@define(kw_only=True, eq=False)
class Chance:
    """Strikes a share of what it is asked about, and counts each time.

    Its dice are its own, so that one fault does not change where another strikes.
    """

    kind: str
    share: float
    dice: random.Random
    injected: Counter[str]

    def strikes(self) -> bool:
        """Whether the fault happens this time."""
        # A share of 1 must strike always; `random` never reaches 1.
        struck = self.dice.random() < self.share
        if struck:
            self.injected[self.kind] += 1
        return struck
