"""What each client of the contest did, and how they compare. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve, frozen

from klineagent.bench.load import MAX
from klineagent.bench.outcome import Bar

OURS = "klineagent"
"""The agent by default; all others are compared with it."""
OURS_UPDATES = "klineagent --updates"

_KEEPS_UP_FROM = 0.98
_QUARTER = 0.25
# By client: what the bar calls it, and how many times ours its CPU time a message should be.
_TIMES: Mapping[str, tuple[str, float]] = {
    "trio-websocket, json": ("trio-websocket, json", 12),
    "cryptofeed": ("cryptofeed", 8),
    "the same, then a thread": ("the old agent's path", 50),
}


@frozen(kw_only=True)
class Entry:
    """What one client did at one rate, or why it did not."""

    client: str
    version: str
    tls: bool
    rate: str
    messages_per_s: float | None = None
    cpu_us_per_message: float | None = None
    times_ours: float | None = None
    """Its CPU time a message, in that of the agent by default."""
    failure: str | None = None

    @property
    def keeps_up(self) -> bool:
        """Whether it has received what was sent at a rate."""
        if self.rate == MAX or self.messages_per_s is None:
            return False
        return self.messages_per_s >= _KEEPS_UP_FROM * float(self.rate)

    @property
    def transport(self) -> str:
        """For people."""
        return "TLS" if self.tls else "plain"


def medians_of(rounds: Sequence[Sequence[Entry]]) -> list[Entry]:
    """Of each client its median entry by CPU time; those that failed come after all others."""
    middle = (len(rounds) - 1) // 2
    return [
        sorted(entries, key=lambda entry: entry.cpu_us_per_message or math.inf)[middle]
        for entries in zip(*rounds, strict=True)
    ]


def in_terms_of_ours(entries: Sequence[Entry]) -> list[Entry]:
    """The entries at one rate, each compared with the agent's."""
    ours = next((each.cpu_us_per_message for each in entries if each.client == OURS), None)
    return [
        evolve(entry, times_ours=entry.cpu_us_per_message / ours)
        if entry.cpu_us_per_message and ours
        else entry
        for entry in entries
    ]


def bars_of(entries: Sequence[Entry]) -> list[Bar]:
    """What the agent should be, compared with others; not measured where one has not run."""
    bars = []
    for tls in dict.fromkeys(entry.tls for entry in entries):
        some = [entry for entry in entries if entry.tls == tls]
        bars += _times(some)
        if tls:
            bars += _share_of_best(some)
    return bars


def best_of(entries: Iterable[Entry]) -> Entry | None:
    """Of the other clients that keep up the cheapest, if any does."""
    keeping_up = [
        entry
        for entry in entries
        if entry.keeps_up and entry.cpu_us_per_message and entry.client not in {OURS, OURS_UPDATES}
    ]
    return min(keeping_up, key=lambda entry: entry.cpu_us_per_message or 0, default=None)


def _times(entries: Iterable[Entry]) -> list[Bar]:
    return [
        Bar(
            what=f"CPU of {_TIMES[entry.client][0]}, times ours, saturated, {entry.transport}",
            seen=entry.times_ours,
            least=_TIMES[entry.client][1],
        )
        for entry in entries
        if entry.rate == MAX and entry.client in _TIMES
    ]


def _share_of_best(entries: Iterable[Entry]) -> list[Bar]:
    """How much of the best one's CPU time ours is, at each rate."""
    bars = []
    for rate in dict.fromkeys(entry.rate for entry in entries if entry.rate != MAX):
        some = [entry for entry in entries if entry.rate == rate]
        best = best_of(some)
        ours = next((each for each in some if each.client == OURS and each.keeps_up), None)
        share = None
        if best and ours and ours.cpu_us_per_message and best.cpu_us_per_message:
            share = ours.cpu_us_per_message / best.cpu_us_per_message
        name = best.client if best else "any that keeps up"
        bars.append(Bar(what=f"our CPU, times {name}'s, at {rate}, TLS", seen=share, most=_QUARTER))
    return bars
