"""The outcome of a scenario: its figures, and the bars they should reach."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import asdict, field, frozen

from klineagent.bench.figures import AgentFigures, Answers
from klineagent.bench.workload import MAX, Workload


@frozen(kw_only=True)
class Bar:
    """A measured value and the bound it should keep."""

    what: str
    seen: float | None
    """None where it could not be measured."""
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the value was measured and is within its bound."""
        if self.seen is None:
            return False
        return (self.least is None or self.seen >= self.least) and (
            self.most is None or self.seen <= self.most
        )

    def as_json(self) -> dict[str, Any]:
        """The bar as a JSON object."""
        return {**asdict(self), "is_met": self.is_met}


@frozen(kw_only=True)
class Outcome:
    """The figures of a scenario's runs, and its bars."""

    runs: dict[str, AgentFigures]
    bars: list[Bar] = field(factory=list)
    answers: Answers | None = None
    """The load generator's result, where there was one."""

    def as_json(self) -> dict[str, Any]:
        """The outcome as a JSON object."""
        return {
            "runs": {name: figures.as_json() for name, figures in self.runs.items()},
            **({} if self.answers is None else {"answers": msgspec.to_builtins(self.answers)}),
            "bars": [bar.as_json() for bar in self.bars],
        }


def percent_of_sent(load: Workload, figures: AgentFigures) -> float:
    """The received share of the frames a twin sends at a fixed rate, in percent; else 100."""
    if load.rate is None or load.rate == MAX:
        return 100
    return 100 * figures.messages_per_s / float(load.rate)
