"""The process that is measured: an agent as `klineagent serve` runs it, and probes around it.

    python -m klineagent.bench.system PLAN

It tells of itself on standard output, a line of JSON each: `ready` with its addresses; for each
window `measuring`, and `measured` with the figures; or `failed`. Then it waits to be stopped.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import cast

import msgspec
import structlog
import trio
from attrs import frozen
from msgspec import Struct

from klineagent.agent import Agent, open_agent
from klineagent.bench.child import FAILED, tell
from klineagent.bench.figures import Figures, Spread
from klineagent.bench.probes import LagProbe, Tally, TwinClock, WatchedStore, memory_of
from klineagent.cli.running import first_of
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import KlineagentError
from klineagent.core.interval import Interval
from klineagent.process.signals import open_stop_signal
from klineagent.storage.opening import open_store
from klineagent.storage.store import Store

LOOK_EVERY_S = 0.25
_ANY_PORT = Bind("127.0.0.1", 0)


class Plan(Struct, frozen=True, kw_only=True):
    """What is recorded, and when to measure."""

    ws_url: str
    rest_url: str
    store: str
    spool: str
    symbols: tuple[str, ...]
    """Recorded from the start."""
    intervals: tuple[Interval, ...]
    streams: int
    """The measurement begins when so many run; who has fewer configured adds the rest."""
    max_symbols: int
    warm_up_s: float
    """Before each window."""
    seconds: float
    """How long each window is."""
    windows: int
    """How many there are, one after the other."""
    updates: bool
    is_probed: bool
    """Whether the event loop is looked at."""


@frozen
class _Reading:
    """What has been counted so far."""

    at: float
    cpu_s: float
    messages: int
    inserts: int
    rows: int
    bad_frames: int
    healed: int

    @classmethod
    def take(cls, agent: Agent, store: WatchedStore) -> _Reading:
        return cls(
            at=trio.current_time(),
            cpu_s=time.process_time(),
            messages=agent.pool.counts.klines,
            inserts=store.inserts,
            rows=store.rows,
            bad_frames=agent.pool.counts.bad.total(),
            healed=agent.registry.context.counts.healed,
        )


def main() -> None:
    """Run the plan that the command line gives."""
    tally = Tally()
    structlog.configure(processors=[tally])
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    try:
        trio.run(_run, plan, tally)
    except* KlineagentError as failures:
        tell(FAILED, error=str(first_of(failures)))


async def _run(plan: Plan, tally: Tally) -> None:
    async with open_stop_signal() as stop, open_store(plan.store) as store:
        clock = await TwinClock.read(plan.rest_url)
        watched = WatchedStore(store, clock)
        async with open_agent(_config(plan), store=cast("Store", watched)) as agent:
            # As `klineagent serve` does.
            gc.collect()
            gc.freeze()
            tell("ready", command=str(agent.command_bind), status=str(agent.status_bind))
            await _all_run(agent, plan.streams)
            for _ in range(plan.windows):
                await trio.sleep(plan.warm_up_s)
                tell("measuring")
                tell("measured", figures=await _measure(agent, watched, plan, tally))
            await stop.wait()


def _config(plan: Plan) -> Config:
    return Config(
        symbols=plan.symbols,
        intervals=plan.intervals,
        ws_url=plan.ws_url,
        rest_url=plan.rest_url,
        store=plan.store,
        spool=plan.spool,
        max_symbols=plan.max_symbols,
        updates=plan.updates,
        # What comes from before the start is not what is measured.
        history=0,
        command_bind=_ANY_PORT,
        status_bind=_ANY_PORT,
        agent_ip=_ANY_PORT.host,
    )


async def _all_run(agent: Agent, streams: int) -> None:
    """Wait until the exchange has confirmed so many streams."""
    # There is no event for all of them together.
    while agent.registry.count() < streams or not all(  # noqa: ASYNC110
        each.is_active for each in agent.registry.subscriptions()
    ):
        await trio.sleep(LOOK_EVERY_S)


async def _measure(agent: Agent, store: WatchedStore, plan: Plan, tally: Tally) -> Figures:
    lag = LagProbe()
    store.open_window()
    async with trio.open_nursery() as probing:
        if plan.is_probed:
            probing.start_soon(lag.run)
        before = _Reading.take(agent, store)
        await trio.sleep(plan.seconds)
        after = _Reading.take(agent, store)
        probing.cancel_scope.cancel(reason="it is measured")
    memory = memory_of()
    store.close_window()
    return Figures(
        seconds=after.at - before.at,
        streams=agent.registry.count(),
        messages=after.messages - before.messages,
        cpu_s=after.cpu_s - before.cpu_s,
        rss=memory.now,
        peak_rss=memory.peak,
        inserts=after.inserts - before.inserts,
        rows=after.rows - before.rows,
        closed=len(store.waited_ms),
        found=await store.found(),
        close_to_stored_ms=Spread.of(list(store.waited_ms.values())),
        lag_ms=Spread.of(lag.late_ms),
        newest_age_ms=round(store.ages_ms[-1]) if store.ages_ms else None,
        insert_age_ms=Spread.of(store.ages_ms),
        bad_frames=after.bad_frames - before.bad_frames,
        healed=after.healed - before.healed,
        missing=agent.registry.missing(),
        warnings=dict(tally.warnings),
    )


if __name__ == "__main__":
    main()
