"""Measures the agent and other clients with the same frames, each in a process of its own."""

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
from klineagent.bench.figures import AgentFigures
from klineagent.bench.measurement import measure
from klineagent.bench.peers.clients import INTERVAL, PEERS, Peer, PeerTarget
from klineagent.bench.peers.peer import Effort
from klineagent.bench.peers.ranking import (
    OURS,
    OURS_UPDATES,
    PeerResult,
    in_terms_of_ours,
    medians_of,
)
from klineagent.bench.twin import open_twin
from klineagent.bench.workload import MAX, Workload
from klineagent.core.errors import first_of
from klineagent.exchange.venues import USDM

# By default the agent parses only the beginning of most forming frames, which no other client here
# does. With `updates` it parses all of them, as the others do, and stores them, as they do not.
_OURS = {OURS: False, OURS_UPDATES: True}
# For slow imports, a request for symbols and the subscription.
_BEGINS_WITHIN_S = 30

# One connection of each client carries them; cryptofeed opens a second one from 200 on. The rate
# is about what the quickest of the others can sustain over TLS with a core of its own.
COMPARISON = Workload(
    symbols=150,
    rate="90000",
    seconds=5,
    intervals=(INTERVAL,),
    tls=None,
    warm_up_s=2,
    is_probed=False,
)


async def compare_peers(
    load: Workload, announce: Callable[[str], None], *, turns: int
) -> list[PeerResult]:
    """Measure each client as fast as it can receive, then at the rate of `load`.

    Args:
        load: the workload; for the agent its store is included in the measurement.
        announce: called with the name of what comes next.
        turns: how many times each client is measured; the median counts.

    Raises:
        ConfigError: TLS is wanted, and trustme is not installed.
    """
    results: list[PeerResult] = []
    with tempfile.TemporaryDirectory(prefix="klineagent-bench-") as folder:
        # First of all, so that a missing library does not end the comparison after minutes.
        certificate = None if load.tls is False else make_certificate(Path(folder))
        for tls in (False, True) if load.tls is None else (load.tls,):
            for rate in dict.fromkeys((MAX, load.rate or MAX)):
                here = evolve(load, tls=tls, rate=rate)
                rounds = [
                    await _round(here, certificate if tls else None, announce) for _ in range(turns)
                ]
                results += in_terms_of_ours(medians_of(rounds))
    return results


async def _round(
    load: Workload, certificate: Certificate | None, announce: Callable[[str], None]
) -> list[PeerResult]:
    """Measure all clients at one rate, over one transport."""

    def begin(client: str, version: str = "") -> PeerResult:
        result = PeerResult(
            client=client, version=version, tls=bool(load.tls), rate=load.rate or MAX
        )
        announce(f"{client}, {result.transport}, {result.rate}")
        return result

    results = [
        _with(begin(name), await measure(evolve(load, updates=updates)))
        for name, updates in _OURS.items()
    ]
    async with open_twin(
        "--rate", load.rate or MAX, symbols=load.symbols, certificate=certificate
    ) as twin:
        target = PeerTarget(
            host=httpx2.URL(twin.rest_urls[USDM.name]).netloc.decode(),
            symbols=twin.symbols[USDM.name],
            tls=certificate is not None,
        )
        for peer in PEERS.values():
            result = begin(peer.name, peer.version or "")
            if peer.version is None:
                results.append(evolve(result, failure="not installed"))
                continue
            try:
                results.append(_with(result, await effort_of(peer, target, load, certificate)))
            except* BenchFailed as failures:
                results.append(evolve(result, failure=str(first_of(failures))))
    return results


def _with(result: PeerResult, seen: AgentFigures | Effort) -> PeerResult:
    return evolve(
        result,
        messages_per_s=seen.messages_per_s,
        cpu_us_per_message=seen.cpu_us_per_message,
    )


async def effort_of(
    peer: Peer, target: PeerTarget, load: Workload, certificate: Certificate | None = None
) -> Effort:
    """Let `peer` receive from `target` in a process of its own, and return what it counted.

    Raises:
        BenchFailed: in a group; it failed or received nothing in time.
    """
    command = [
        *(sys.executable, "-m", "klineagent.bench.peers.peer", peer.name),
        *(msgspec.json.encode(target).decode(), str(load.warm_up_s), str(load.seconds)),
    ]
    within_s = _BEGINS_WITHIN_S + load.warm_up_s + load.seconds
    environ = certificate.environ if certificate else None
    async with open_child(peer.name, command, reports_on="stdout", environ=environ) as child:
        with trio.move_on_after(within_s) as patience:
            event = await child.event("measured")
        if patience.cancelled_caught:
            raise BenchFailed(f"{peer.name} received nothing within {_BEGINS_WITHIN_S} s")
    return msgspec.convert(event["effort"], Effort)
