"""One measurement: a twin, an agent that records from it, and the figures."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import trio
from attrs import frozen

from klineagent.bench.certificate import Certificate, make_certificate
from klineagent.bench.child import Child, open_child
from klineagent.bench.figures import AgentFigures, Spread
from klineagent.bench.pings import Pings
from klineagent.bench.system import MeasurementPlan
from klineagent.bench.twin import TwinProcess, open_twin
from klineagent.bench.workload import FRESH, Workload
from klineagent.exchange.venues import VENUES, full_name

READY_WITHIN_S = 180
"""An agent subscribes to 9,000 streams in a few seconds; a busy machine takes longer, and all of
Binance ten times as long."""
MEASURED_AFTER_S = 30
"""How much longer than its window a measurement may take."""


class Past(Protocol):
    """What an earlier run has recorded."""

    async def fill(self, store: str, twin: TwinProcess, environ: Mapping[str, str]) -> None:
        """Fill the store at this URL, which no process has open; clients need `environ`."""


@frozen(kw_only=True)
class Scene:
    """A running twin and a running agent that records from it."""

    load: Workload
    twin: TwinProcess
    agent: Child
    symbols: tuple[str, ...]
    """The symbols that are recorded, as commands name them."""
    spare: tuple[str, ...]
    """Symbols that are traded and not recorded."""
    command: str
    """Address of its command server."""
    status: str
    read: str
    """Address of its read server."""
    environ: Mapping[str, str]
    """What clients of the twin need in their environment."""


@asynccontextmanager
async def open_scene(
    load: Workload,
    *twin_options: str,
    add_later: bool = False,
    spare_symbols: int = 0,
    past: Past | None = None,
) -> AsyncIterator[Scene]:
    """Run a twin and an agent for `load` while the block lasts, and delete their files after it.

    Args:
        load: the workload.
        twin_options: more options of `klineagent simulate`.
        add_later: whether the agent starts without streams, for the caller to add them.
        spare_symbols: how many symbols of each venue are traded but not recorded; the agent has
            room for them.
        past: what an earlier run has recorded.

    Raises:
        BenchFailed: twin or agent did not start.
    """
    with tempfile.TemporaryDirectory(prefix="klineagent-bench-") as name:
        folder = Path(name)
        certificate = make_certificate(folder) if load.tls else None
        rate = () if load.rate is None else ("--all-intervals", "--rate", load.rate)
        async with (
            open_twin(
                *(*rate, *twin_options),
                symbols={venue: n + spare_symbols for venue, n in load.symbols.items()},
                certificate=certificate,
            ) as twin,
            _open_agent(load, twin, folder, certificate, add_later=add_later, past=past) as agent,
        ):
            ready = await agent.event_within(READY_WITHIN_S, "ready")
            recorded = _recorded(load, twin)
            yield Scene(
                load=load,
                twin=twin,
                agent=agent,
                symbols=recorded,
                spare=tuple(each for each in _names(twin.symbols) if each not in recorded),
                command=ready["command"],
                status=ready["status"],
                read=ready["read"],
                environ=certificate.environ if certificate else {},
            )


@asynccontextmanager
async def _open_agent(
    load: Workload,
    twin: TwinProcess,
    folder: Path,
    certificate: Certificate | None,
    *,
    add_later: bool,
    past: Past | None,
) -> AsyncIterator[Child]:
    store = f"chdb://{folder}/klines" if load.store == FRESH else load.store
    environ = certificate.environ if certificate else {}
    if past is not None:
        await past.fill(store, twin, environ)
    plan = MeasurementPlan(
        venue=next(iter(load.symbols)),
        ws_urls=twin.ws_urls,
        rest_urls=twin.rest_urls,
        store=store,
        spool=str(folder / "spool"),
        symbols=() if add_later else _recorded(load, twin),
        intervals=load.intervals,
        streams=load.streams,
        max_symbols=len(_names(twin.symbols)),
        warm_up_s=load.warm_up_s,
        updates=load.updates,
        is_probed=load.is_probed,
    )
    command = [sys.executable, "-m", "klineagent.bench.system", msgspec.json.encode(plan).decode()]
    async with open_child("the agent", command, reports_on="stdout", environ=environ) as agent:
        yield agent


def _recorded(load: Workload, twin: TwinProcess) -> tuple[str, ...]:
    return _names({venue: twin.symbols[venue][:n] for venue, n in load.symbols.items()})


def _names(symbols: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    default, *_ = symbols
    return tuple(
        full_name(VENUES[venue], symbol, VENUES[default])
        for venue, some in symbols.items()
        for symbol in some
    )


async def measure(load: Workload, *twin_options: str) -> AgentFigures:
    """Measure an agent in one window under `load`.

    Raises:
        BenchFailed: a process did not start, or was too slow.
    """
    async with open_scene(load, *twin_options) as scene:
        return await figures_of(scene)


async def figures_of(scene: Scene, seconds: float | None = None) -> AgentFigures:
    """Measure a window, of the workload's length or of `seconds`, also from outside.

    Raises:
        BenchFailed: the agent did not record all streams in time, or ended.
    """
    load, twin, agent = scene.load, scene.twin, scene.agent
    seconds, window = seconds or load.seconds, agent.count("measured")
    await agent.go(str(seconds))
    await agent.event_within(READY_WITHIN_S + load.warm_up_s, "measuring", window)
    pings = Pings()
    before = twin.child.cpu_s()
    async with trio.open_nursery() as asking:
        if load.is_probed:
            asking.start_soon(pings.run, scene.status)
        event = await agent.event_within(seconds + MEASURED_AFTER_S, "measured", window)
        asking.cancel_scope.cancel(reason="it is measured")
    after = twin.child.cpu_s()
    return msgspec.structs.replace(
        msgspec.convert(event["figures"], AgentFigures),
        ping_ms=Spread.of(pings.took_ms),
        twin_cpu_s=None if before is None or after is None else after - before,
    )
