"""One measurement: a twin, an agent, and what comes of them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio
from attrs import frozen

from klineagent.bench.certificate import Certificate, make_certificate
from klineagent.bench.child import Child, open_child
from klineagent.bench.figures import Figures, Spread
from klineagent.bench.load import FRESH, Load
from klineagent.bench.pings import Pings
from klineagent.bench.system import Plan
from klineagent.bench.twin import Twin, open_twin

READY_WITHIN_S = 60
"""An agent asks for 9,000 streams in a few seconds; a busy machine takes longer."""
MEASURED_AFTER_S = 30
"""How much longer than its window a measurement may take."""


@frozen(kw_only=True)
class Scene:
    """A twin and an agent that records from it, both running."""

    load: Load
    twin: Twin
    agent: Child
    command: str
    """Address of its command server."""
    status: str


@asynccontextmanager
async def open_scene(
    load: Load,
    *twin_options: str,
    add_later: bool = False,
    windows: int = 1,
    spare_symbols: int = 0,
) -> AsyncIterator[Scene]:
    """Twin and agent for `load`, in the block; nothing they have made is left behind.

    Args:
        load: the traffic.
        twin_options: more options of `klineagent simulate`.
        add_later: whether the agent begins without any stream, so that they can be added.
        windows: how many times the agent is measured.
        spare_symbols: how many more are traded than recorded; the agent has room for them.

    Raises:
        BenchFailed: one of them could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="klineagent-bench-") as name:
        folder = Path(name)
        certificate = make_certificate(folder) if load.tls else None
        rate = () if load.rate is None else ("--all-intervals", "--rate", load.rate)
        async with (
            open_twin(
                *(*rate, *twin_options),
                symbols=load.symbols + spare_symbols,
                certificate=certificate,
            ) as twin,
            _open_agent(
                load, twin, folder, certificate, add_later=add_later, windows=windows
            ) as agent,
        ):
            ready = await agent.told_within(READY_WITHIN_S, "ready")
            yield Scene(
                load=load,
                twin=twin,
                agent=agent,
                command=ready["command"],
                status=ready["status"],
            )


@asynccontextmanager
async def _open_agent(
    load: Load,
    twin: Twin,
    folder: Path,
    certificate: Certificate | None,
    *,
    add_later: bool,
    windows: int,
) -> AsyncIterator[Child]:
    plan = Plan(
        ws_url=twin.ws_url,
        rest_url=twin.rest_url,
        store=f"chdb://{folder}/klines" if load.store == FRESH else load.store,
        spool=str(folder / "spool"),
        symbols=() if add_later else twin.symbols[: load.symbols],
        intervals=load.intervals,
        streams=load.streams,
        max_symbols=len(twin.symbols),
        warm_up_s=load.warm_up_s,
        seconds=load.seconds,
        windows=windows,
        updates=load.updates,
        is_probed=load.is_probed,
    )
    command = [sys.executable, "-m", "klineagent.bench.system", msgspec.json.encode(plan).decode()]
    environ = certificate.environ if certificate else None
    async with open_child("the agent", command, tells_on="stdout", environ=environ) as agent:
        yield agent


async def measure(load: Load, *twin_options: str) -> Figures:
    """Let an agent record `load`, and tell what was seen in its window.

    Raises:
        BenchFailed: a process could not be started, or did not do its part in time.
    """
    async with open_scene(load, *twin_options) as scene:
        return await figures_of(scene)


async def figures_of(scene: Scene, window: int = 0) -> Figures:
    """Wait for a window of a scene, look at the agent from outside meanwhile, tell both.

    Raises:
        BenchFailed: the agent did not record all streams in time, or has ended.
    """
    load, twin = scene.load, scene.twin
    await scene.agent.told_within(READY_WITHIN_S + load.warm_up_s, "measuring", window)
    pings = Pings()
    before = twin.child.cpu_s()
    async with trio.open_nursery() as asking:
        if load.is_probed:
            asking.start_soon(pings.run, scene.status)
        told = await scene.agent.told_within(load.seconds + MEASURED_AFTER_S, "measured", window)
        asking.cancel_scope.cancel(reason="it is measured")
    after = twin.child.cpu_s()
    return msgspec.structs.replace(
        msgspec.convert(told["figures"], Figures),
        ping_ms=Spread.of(pings.took_ms),
        twin_cpu_s=None if before is None or after is None else after - before,
    )
