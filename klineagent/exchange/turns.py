"""Requests that wait for their turn to spend weight, in the order of their urgency."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

import trio
from attrs import define, field

# From this urgency on a request may wait for minutes: it fetches history.
UNHURRIED = 3
# The urgency of requests for programs that read: they wait for all of the agent's own.
FORWARDED = UNHURRIED + 1
# The urgency of jobs, which may take hours: they wait for all other requests.
LAST = FORWARDED + 1


class Spender(Protocol):
    """What spends the weight of a turn that is granted."""

    def send(self, turn: Turn) -> None:
        """Let the request of `turn` go ahead."""


@define(eq=False)
class Turn:
    """A request that waits for its turn."""

    budget: Spender
    number: int
    """Its place in the order of arrival at the pool."""
    weight: int
    urgency: int
    granted: trio.Event = field(factory=trio.Event, init=False)

    @property
    def rank(self) -> tuple[int, int]:
        """The turn of the lowest rank is granted first."""
        return self.urgency, self.number

    @property
    def is_forwarded(self) -> bool:
        """Whether it is for a program that reads, and not for the agent itself."""
        return self.urgency == FORWARDED


@define(eq=False)
class TurnQueue:
    """Holds the waiting turns of one venue.

    Leaving is as cheap as entering: at a stop thousands of requests leave at once.
    """

    # By urgency and weight, of which there are few, and then by number.
    _turns: dict[tuple[int, int], OrderedDict[int, Turn]] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return sum(map(len, self._turns.values()))

    def firsts(self) -> Iterator[Turn]:
        """Yield the first turn of each urgency and weight."""
        return (next(iter(turns.values())) for turns in self._turns.values() if turns)

    def enter(self, turn: Turn) -> None:
        """Append `turn` to those of its urgency and weight."""
        self._turns.setdefault((turn.urgency, turn.weight), OrderedDict())[turn.number] = turn

    def leave(self, turn: Turn) -> None:
        """Remove `turn`, if it is in the queue."""
        self._turns[turn.urgency, turn.weight].pop(turn.number, None)
