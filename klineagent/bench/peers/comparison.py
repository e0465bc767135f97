"""The same frames through the agent and through other clients, each in a process of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import msgspec
import trio
from attrs import evolve

from klineagent.bench.certificate import Certificate, make_certificate
from klineagent.bench.child import BenchFailed, open_child
from klineagent.bench.figures import Figures
from klineagent.bench.load import MAX, Load
from klineagent.bench.measurement import measure
from klineagent.bench.peers.clients import INTERVAL, PEERS, Peer, Place
from klineagent.bench.peers.peer import Effort
from klineagent.bench.peers.ranking import (
    OURS,
    OURS_UPDATES,
    Entry,
    in_terms_of_ours,
    medians_of,
)
from klineagent.bench.twin import open_twin
from klineagent.cli.running import first_of

# By default most states of a forming candle are told apart and never read, which no other client
# here does; where every state is kept all are read, as they do, and stored, as they do not.
_OURS = {OURS: False, OURS_UPDATES: True}
# Slow imports, a list of symbols, a subscription.
_BEGINS_WITHIN_S = 30

# One connection of each client carries them; cryptofeed takes a second one from 200 on. The rate
# is about what the quickest of the others can hold over TLS with a core of its own.
CONTEST = Load(
    symbols=150,
    rate="90000",
    seconds=5,
    intervals=(INTERVAL,),
    tls=None,
    warm_up_s=2,
    is_probed=False,
)


async def contest(load: Load, tell: Callable[[str], None], *, turns: int) -> list[Entry]:
    """Let each client receive as fast as it can, and then at the rate of `load`.

    Args:
        load: what is received; of the agent all of it is measured, its store included.
        tell: called with the name of what comes next.
        turns: how often; an entry is that of the median, for machines are busy now and then.

    Raises:
        ConfigError: TLS is wanted, and there is nothing to make certificates with.
    """
    entries: list[Entry] = []
    with tempfile.TemporaryDirectory(prefix="klineagent-bench-") as folder:
        # Before all else: whoever cannot make one should not learn it after minutes.
        certificate = None if load.tls is False else make_certificate(Path(folder))
        for tls in (False, True) if load.tls is None else (load.tls,):
            for rate in dict.fromkeys((MAX, load.rate or MAX)):
                here = evolve(load, tls=tls, rate=rate)
                rounds = [
                    await _round(here, certificate if tls else None, tell) for _ in range(turns)
                ]
                entries += in_terms_of_ours(medians_of(rounds))
    return entries


async def _round(
    load: Load, certificate: Certificate | None, tell: Callable[[str], None]
) -> list[Entry]:
    """All clients at one rate, over one transport."""

    def begin(client: str, version: str = "") -> Entry:
        entry = Entry(client=client, version=version, tls=bool(load.tls), rate=load.rate or MAX)
        tell(f"{client}, {entry.transport}, {entry.rate}")
        return entry

    entries = [
        _with(begin(name), await measure(evolve(load, updates=updates)))
        for name, updates in _OURS.items()
    ]
    async with open_twin(
        "--rate", load.rate or MAX, symbols=load.symbols, certificate=certificate
    ) as twin:
        place = Place(
            host=httpx2.URL(twin.rest_url).netloc.decode(),
            symbols=twin.symbols,
            tls=certificate is not None,
        )
        for peer in PEERS.values():
            entry = begin(peer.name, peer.version or "")
            if peer.version is None:
                entries.append(evolve(entry, failure="not installed"))
                continue
            try:
                entries.append(_with(entry, await effort_of(peer, place, load, certificate)))
            except* BenchFailed as failures:
                entries.append(evolve(entry, failure=str(first_of(failures))))
    return entries


def _with(entry: Entry, seen: Figures | Effort) -> Entry:
    return evolve(
        entry,
        messages_per_s=seen.messages_per_s,
        cpu_us_per_message=seen.cpu_us_per_message,
    )


async def effort_of(
    peer: Peer, place: Place, load: Load, certificate: Certificate | None = None
) -> Effort:
    """Let `peer` receive what there is at `place`, in a process of its own.

    Raises:
        BenchFailed: in a group; it did not.
    """
    command = [
        *(sys.executable, "-m", "klineagent.bench.peers.peer", peer.name),
        *(msgspec.json.encode(place).decode(), str(load.warm_up_s), str(load.seconds)),
    ]
    within_s = _BEGINS_WITHIN_S + load.warm_up_s + load.seconds
    environ = certificate.environ if certificate else None
    async with open_child(peer.name, command, tells_on="stdout", environ=environ) as child:
        with trio.move_on_after(within_s) as patience:
            told = await child.told("measured")
        if patience.cancelled_caught:
            raise BenchFailed(f"{peer.name} received nothing within {_BEGINS_WITHIN_S} s")
    return msgspec.convert(told["effort"], Effort)
