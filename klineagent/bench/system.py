"""The system under test: a process with an agent as `klineagent serve` runs it, and probes.

    python -m klineagent.bench.system PLAN

It reports events on standard output, each a line of JSON: `ready` with its addresses; for each
window `measuring`, and `measured` with the figures; or `failed`. Each line on its standard input
is the length in seconds of a window that it shall measure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import cast

import msgspec
import structlog
import trio
from attrs import frozen
from msgspec import Struct

from klineagent.agent import Agent, open_agent
from klineagent.bench.child import FAILED, emit
from klineagent.bench.figures import AgentFigures, Spread
from klineagent.bench.probes import LagProbe, Tally, TwinClock, WatchedStore, memory_of
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import KlineagentError, first_of
from klineagent.core.interval import Interval
from klineagent.exchange.venues import VENUES
from klineagent.process.interpreter import answer_promptly
from klineagent.process.signals import open_stop_signal
from klineagent.storage.opening import open_store
from klineagent.storage.store import Store

LOOK_EVERY_S = 0.25
_ANY_PORT = Bind("127.0.0.1", 0)


class MeasurementPlan(Struct, frozen=True, kw_only=True):
    """What the system under test records, and when it measures."""

    venue: str
    """The default venue."""
    ws_urls: Mapping[str, str]
    """By venue."""
    rest_urls: Mapping[str, str]
    store: str
    spool: str
    symbols: tuple[str, ...]
    """Recorded from the start."""
    intervals: tuple[Interval, ...]
    streams: int
    """The measurement begins when this many run; those not configured must be added over HTTP."""
    max_symbols: int
    warm_up_s: float
    """Before each window."""
    updates: bool
    is_probed: bool
    """Whether event-loop lag is measured."""


@frozen
class _Reading:
    """Counters at one moment."""

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
            messages=sum(each.context.pool.counts.klines for each in agent.venues),
            inserts=store.inserts,
            rows=store.rows,
            bad_frames=sum(each.context.pool.counts.bad.total() for each in agent.venues),
            healed=sum(each.context.counts.healed for each in agent.venues),
        )


def main() -> None:
    """Run the plan given on the command line."""
    tally = Tally()
    structlog.configure(processors=[tally])
    plan = msgspec.json.decode(sys.argv[1], type=MeasurementPlan)
    try:
        trio.run(_run, plan, tally)
    except* KlineagentError as failures:
        emit(FAILED, error=str(first_of(failures)))


async def _run(plan: MeasurementPlan, tally: Tally) -> None:
    async with open_stop_signal() as stop, open_store(plan.store) as store:
        clock = await TwinClock.read(plan.rest_urls[plan.venue], VENUES[plan.venue])
        watched = WatchedStore(store, clock)
        async with open_agent(_config(plan), store=cast("Store", watched)) as agent:
            answer_promptly()  # as `klineagent serve` does
            emit(
                "ready",
                command=str(agent.command_bind),
                status=str(agent.status_bind),
                read=str(agent.read_bind),
            )
            async with trio.open_nursery() as measuring:
                measuring.start_soon(_measure_all, agent, watched, plan, tally)
                await stop.wait()
                measuring.cancel_scope.cancel(reason="stopped")


async def _measure_all(
    agent: Agent, store: WatchedStore, plan: MeasurementPlan, tally: Tally
) -> None:
    await _all_run(agent, plan.streams)
    while seconds := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        await trio.sleep(plan.warm_up_s)
        emit("measuring")
        emit("measured", figures=await _measure(agent, store, plan, tally, float(seconds)))


def _config(plan: MeasurementPlan) -> Config:
    return Config(
        symbols=plan.symbols,
        intervals=plan.intervals,
        venue=plan.venue,
        ws_url=plan.ws_urls,
        rest_url=plan.rest_urls,
        store=plan.store,
        spool=plan.spool,
        max_symbols=plan.max_symbols,
        updates=plan.updates,
        # Backfill of history would be measured along.
        history=0,
        command_bind=_ANY_PORT,
        status_bind=_ANY_PORT,
        read_bind=_ANY_PORT,
        agent_ip=_ANY_PORT.host,
    )


async def _all_run(agent: Agent, streams: int) -> None:
    """Wait until `streams` streams run: the exchange has confirmed them, the store was searched."""
    # The registry has no event for all streams together.
    while agent.venues.count() < streams or not all(  # noqa: ASYNC110
        each.is_active and each.audited_ms is not None
        for registry in agent.venues.registries()
        for each in registry.subscriptions()
    ):
        await trio.sleep(LOOK_EVERY_S)


async def _measure(
    agent: Agent, store: WatchedStore, plan: MeasurementPlan, tally: Tally, seconds: float
) -> AgentFigures:
    lag = LagProbe()
    store.open_window()
    async with trio.open_nursery() as probing:
        if plan.is_probed:
            probing.start_soon(lag.run)
        before = _Reading.take(agent, store)
        await trio.sleep(seconds)
        after = _Reading.take(agent, store)
        probing.cancel_scope.cancel(reason="it is measured")
    memory = memory_of()
    store.close_window()
    return AgentFigures(
        seconds=after.at - before.at,
        streams=agent.venues.count(),
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
        missing=sum(each.missing() for each in agent.venues.registries()),
        warnings=dict(tally.warnings),
        last_read_at=store.last_read_at,
    )


if __name__ == "__main__":
    main()
