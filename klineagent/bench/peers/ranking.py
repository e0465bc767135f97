"""Results of the comparison: medians, and figures relative to the agent's. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve, frozen

from klineagent.bench.outcome import Bar
from klineagent.bench.workload import MAX

OURS = "klineagent"
"""The agent with default options; all others are compared with it."""
OURS_UPDATES = "klineagent --updates"

_KEEPS_UP_FROM = 0.98
_QUARTER = 0.25
# By client: its name in the bar, and how many times our CPU per message it should take at least.
_TIMES: Mapping[str, tuple[str, float]] = {
    "trio-websocket, json": ("trio-websocket, json", 12),
    "cryptofeed": ("cryptofeed", 8),
    "the same, then a thread": ("the old agent's path", 50),
}


@frozen(kw_only=True)
class PeerResult:
    """The figures of one client at one rate, or why there are none."""

    client: str
    version: str
    tls: bool
    rate: str
    messages_per_s: float | None = None
    cpu_us_per_message: float | None = None
    times_ours: float | None = None
    """Its CPU per message as a multiple of the agent's with default options."""
    failure: str | None = None

    @property
    def keeps_up(self) -> bool:
        """Whether the client received all frames sent at a fixed rate."""
        if self.rate == MAX or self.messages_per_s is None:
            return False
        return self.messages_per_s >= _KEEPS_UP_FROM * float(self.rate)

    @property
    def transport(self) -> str:
        """The transport, as shown to users."""
        return "TLS" if self.tls else "plain"


def medians_of(rounds: Sequence[Sequence[PeerResult]]) -> list[PeerResult]:
    """The median result of each client by CPU per message; failed ones rank last."""
    middle = (len(rounds) - 1) // 2
    return [
        sorted(results, key=lambda result: result.cpu_us_per_message or math.inf)[middle]
        for results in zip(*rounds, strict=True)
    ]


def in_terms_of_ours(results: Sequence[PeerResult]) -> list[PeerResult]:
    """The results at one rate, each with its multiple of the agent's CPU."""
    ours = next((each.cpu_us_per_message for each in results if each.client == OURS), None)
    return [
        evolve(result, times_ours=result.cpu_us_per_message / ours)
        if result.cpu_us_per_message and ours
        else result
        for result in results
    ]


def bars_of(results: Sequence[PeerResult]) -> list[Bar]:
    """Bars for the agent compared with others; not measured where one of them did not run."""
    bars = []
    for tls in dict.fromkeys(result.tls for result in results):
        some = [result for result in results if result.tls == tls]
        bars += _times(some)
        if tls:
            bars += _share_of_best(some)
    return bars


def best_of(results: Iterable[PeerResult]) -> PeerResult | None:
    """The client other than ours that keeps up with the least CPU; None if none keeps up."""
    keeping_up = [
        result
        for result in results
        if result.keeps_up
        and result.cpu_us_per_message
        and result.client not in {OURS, OURS_UPDATES}
    ]
    return min(keeping_up, key=lambda result: result.cpu_us_per_message or 0, default=None)


def _times(results: Iterable[PeerResult]) -> list[Bar]:
    return [
        Bar(
            what=f"CPU of {_TIMES[result.client][0]}, times ours, saturated, {result.transport}",
            seen=result.times_ours,
            least=_TIMES[result.client][1],
        )
        for result in results
        if result.rate == MAX and result.client in _TIMES
    ]


def _share_of_best(results: Iterable[PeerResult]) -> list[Bar]:
    """Bars for our CPU as a share of the best client's, at each rate."""
    bars = []
    for rate in dict.fromkeys(result.rate for result in results if result.rate != MAX):
        some = [result for result in results if result.rate == rate]
        best = best_of(some)
        ours = next((each for each in some if each.client == OURS and each.keeps_up), None)
        share = None
        if best and ours and ours.cpu_us_per_message and best.cpu_us_per_message:
            share = ours.cpu_us_per_message / best.cpu_us_per_message
        name = best.client if best else "any that keeps up"
        bars.append(Bar(what=f"our CPU, times {name}'s, at {rate}, TLS", seen=share, most=_QUARTER))
    return bars
