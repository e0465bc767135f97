"""What a scenario has shown, and what it should have."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import asdict, field, frozen

from klineagent.bench.figures import Answers, Figures
from klineagent.bench.load import MAX, Load


@frozen(kw_only=True)
class Bar:
    """Something seen, and what it should be."""

    what: str
    seen: float | None
    """None where it could not be measured."""
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether it is as it should be."""
        if self.seen is None:
            return False
        return (self.least is None or self.seen >= self.least) and (
            self.most is None or self.seen <= self.most
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {**asdict(self), "is_met": self.is_met}


@frozen(kw_only=True)
class Outcome:
    """What a scenario has shown."""

    runs: dict[str, Figures]
    bars: list[Bar] = field(factory=list)
    answers: Answers | None = None
    """Where the agent was asked things."""

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "runs": {name: figures.as_json() for name, figures in self.runs.items()},
            **({} if self.answers is None else {"answers": msgspec.to_builtins(self.answers)}),
            "bars": [bar.as_json() for bar in self.bars],
        }


def percent_of_sent(load: Load, figures: Figures) -> float:
    """How much has come of what a twin sends that has a rate."""
    if load.rate is None or load.rate == MAX:
        return 100
    return 100 * figures.messages_per_s / float(load.rate)
