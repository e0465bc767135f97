"""The same frames through the agent and through other clients, each in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable

import httpx2
import msgspec
import trio
from attrs import evolve, frozen

from klineagent.bench.child import BenchFailed, first_of, open_child
from klineagent.bench.clients import INTERVAL, PEERS, Peer, Place
from klineagent.bench.figures import MILLION
from klineagent.bench.load import MAX, Load
from klineagent.bench.measurement import measure
from klineagent.bench.peer import Effort
from klineagent.bench.twin import open_twin

# By default most states of a forming candle are told apart and never read, which no other client
# here does; where every state is kept all are read, as they do, and stored, as they do not.
OURS = {"klineagent": False, "klineagent --updates": True}
# Slow imports, a list of symbols, a subscription.
_BEGINS_WITHIN_S = 30

# One connection of each client carries them; cryptofeed takes a second one from 200 on.
CONTEST = Load(
    symbols=150, rate="20000", seconds=5, intervals=(INTERVAL,), warm_up_s=2, is_probed=False
)


@frozen(kw_only=True)
class Entry:
    """What one client did at one rate, or why it did not."""

    client: str
    version: str
    rate: str
    messages_per_s: float | None = None
    cpu_us_per_message: float | None = None
    times_ours: float | None = None
    """Its CPU time a message, in that of the agent by default."""
    failure: str | None = None


async def contest(load: Load, tell: Callable[[str], None]) -> list[Entry]:
    """Let each client receive as fast as it can, and then at the rate of `load`.

    Args:
        load: what is received; of the agent all of it is measured, its store included.
        tell: called with the name of what comes next.
    """
    entries = []
    for rate in dict.fromkeys((MAX, load.rate or MAX)):
        ours = None
        for name, updates in OURS.items():
            tell(f"{name}, {rate}")
            figures = await measure(evolve(load, rate=rate, updates=updates))
            cpu_us = figures.cpu_us_per_message
            ours = ours or cpu_us
            entries.append(
                Entry(
                    client=name,
                    version="",
                    rate=rate,
                    messages_per_s=figures.messages_per_s,
                    cpu_us_per_message=cpu_us,
                    times_ours=cpu_us / ours if cpu_us and ours else None,
                )
            )
        async with open_twin("--rate", rate, symbols=load.symbols) as twin:
            place = Place(host=httpx2.URL(twin.rest_url).netloc.decode(), symbols=twin.symbols)
            for peer in PEERS.values():
                tell(f"{peer.name}, {rate}")
                entries.append(await _enter(peer, place, evolve(load, rate=rate), ours))
    return entries


async def _enter(peer: Peer, place: Place, load: Load, ours: float | None) -> Entry:
    entry = Entry(client=peer.name, version=peer.version or "", rate=load.rate or "")
    if peer.version is None:
        return evolve(entry, failure="not installed")
    try:
        effort = await effort_of(peer, place, load)
        cpu_us = effort.cpu_s / effort.messages * MILLION if effort.messages else None
        entry = evolve(
            entry,
            messages_per_s=effort.messages / effort.seconds,
            cpu_us_per_message=cpu_us,
            times_ours=cpu_us / ours if cpu_us and ours else None,
        )
    except* BenchFailed as failures:
        entry = evolve(entry, failure=str(first_of(failures)))
    return entry


async def effort_of(peer: Peer, place: Place, load: Load) -> Effort:
    """Let `peer` receive what there is at `place`, in a process of its own.

    Raises:
        BenchFailed: in a group; it did not.
    """
    command = [
        *(sys.executable, "-m", "klineagent.bench.peer", peer.name),
        *(msgspec.json.encode(place).decode(), str(load.warm_up_s), str(load.seconds)),
    ]
    within_s = _BEGINS_WITHIN_S + load.warm_up_s + load.seconds
    async with open_child(peer.name, command, tells_on="stdout") as child:
        with trio.move_on_after(within_s) as patience:
            told = await child.told("measured")
        if patience.cancelled_caught:
            raise BenchFailed(f"{peer.name} received nothing within {_BEGINS_WITHIN_S} s")
    return msgspec.convert(told["effort"], Effort)
