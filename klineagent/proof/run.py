"""One run of the proof: exchange, store, process lifecycle and fault schedule from one seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import product

import trio
from trio.testing import MockClock

from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import DAY_MS, MINUTE_MS
from klineagent.exchange.venues import VENUES, full_name
from klineagent.proof.active_faults import ActiveFaults, FaultRecord
from klineagent.proof.lifecycle import Lifecycle
from klineagent.proof.listening import ProofListener
from klineagent.proof.plan import ProofFailed, ProofPlan, ProofReport
from klineagent.proof.reading import ProofReader
from klineagent.proof.schedule import OF_ALL, FaultTargets, inject
from klineagent.proof.turns import Turns
from klineagent.proof.venue import INTERVALS, VenueProof
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.segment import decode
from klineagent.testing.simulation import network_of
from klineagent.twin.exchange import Exchange
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket

DAY_S = 86_400.0
# After the last fault everything must be repaired within this time: a ban plus the longest retry
# delay, and the history of the agent started last.
SETTLE_S = 45 * 60.0
START_MS = 1_769_904_000_000  # 2026-02-01
# Between two looks at the agent. Short, as a restart may repair what it overlooked.
LOOK_EVERY_S = 120.0
TIME_GAPS_EVERY_S = 20.0
# Few forming updates: they are not what is proven, and each costs as much as a closing one.
TICK_MS = 5 * MINUTE_MS
# What the twin enforces: it closes connections, answers 429 and 418, and counts breaches.
LIMITS = (
    "request weight a minute",
    "four fifths of the weight a minute of each pool",
    "messages a second and connection",
    "streams a connection",
    "connection attempts in five minutes",
)
_LOOPBACK = Bind("127.0.0.1", 0)


def prove(plan: ProofPlan) -> ProofReport:
    """Run `plan`.

    Raises:
        ProofFailed: at the first missing, wrong or doubled candle, or broken limit.
    """
    _make_deterministic(plan.seed)
    seen: list[ProofFailed] = []
    report = trio.run(_prove, plan, seen, clock=MockClock(autojump_threshold=0))
    if seen:
        raise seen[0]
    return report


def _make_deterministic(seed: int) -> None:
    """Make jitter, ids and the order of tasks follow from `seed`."""
    random.seed(seed)
    # Trio shuffles tasks on purpose; Hypothesis makes it deterministic in the same way.
    scheduler = vars(import_module("trio._core._run"))
    scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    scheduler["_r"] = random.Random(seed)  # noqa: S311 - no secret


async def _prove(plan: ProofPlan, seen: list[ProofFailed]) -> ProofReport:
    markets = {name: _market(plan, name) for name in plan.venue_names}
    store, injected = MemoryStore(), Counter[str]()
    async with (
        open_exchanges(markets, tick_ms=TICK_MS, seed=plan.seed) as exchanges,
        trio.open_nursery() as connections,
        trio.open_nursery() as tasks,
    ):
        venues = _venues(plan, markets, exchanges, store)
        lifecycle = Lifecycle(
            config=_config(plan, venues),
            network=network_of(exchanges, connections),
            store=store,
            oracles={each.name: each.oracle for each in venues},
            readers=_readers(plan, venues),
            chance=random.Random(plan.seed),  # noqa: S311 - no secret
        )
        turns = Turns(names=plan.venue_names, begin_s=trio.current_time())
        ends_at = trio.current_time() + plan.days * DAY_S
        for kind, venue in product(plan.kinds, venues):
            # Where all are struck at once, one venue's targets stand for all.
            if kind in OF_ALL and venue is not venues[plan.seed % len(venues)]:
                continue
            seed = (
                f"{plan.seed}/{kind}" if venue is venues[0] else f"{plan.seed}/{venue.name}/{kind}"
            )
            targets = FaultTargets(
                exchange=venue.exchange,
                market=venue.market,
                store=store,
                lifecycle=lifecycle,
                active_faults=venue.active_faults,
                symbols=venue.symbols,
                chance=random.Random(seed),  # noqa: S311 - no secret
            )
            strike = partial(inject, turns=turns, pause_s=plan.pause_s, until=ends_at - SETTLE_S)
            tasks.start_soon(strike, kind, targets, injected)
        tasks.start_soon(lifecycle.run)
        try:
            await _watch(venues, lifecycle, turns, ends_at)
            _check_series(plan, venues, lifecycle)
        except ProofFailed as failure:
            seen.append(failure)
        lifecycle.account()
        tasks.cancel_scope.cancel(reason="the run is over")
        connections.cancel_scope.cancel(reason="the run is over")
    return _report(venues, lifecycle, injected)


def _market(plan: ProofPlan, venue_name: str) -> EventfulMarket:
    return EventfulMarket(
        RandomMarket(
            symbols=plan.symbols,
            seed=plan.seed,
            start_ms=START_MS,
            venue_name=venue_name,
            history_ms=plan.listed_days * DAY_MS,
        )
    )


def _readers(plan: ProofPlan, venues: Sequence[VenueProof]) -> list[ProofReader | ProofListener]:
    readers: list[ProofReader | ProofListener] = [each.listener for each in venues]
    if not plan.has_short_memory:  # a read of the past would find what a restart forgot
        readers += [each.reader for each in venues]
    return readers


def _venues(
    plan: ProofPlan,
    markets: Mapping[str, EventfulMarket],
    exchanges: Mapping[str, Exchange],
    store: MemoryStore,
) -> list[VenueProof]:
    everywhere, pools = FaultRecord(), defaultdict[str, FaultRecord](FaultRecord)
    return [
        VenueProof(
            exchange=exchange,
            market=markets[name],
            symbols=tuple(each.symbol for each in markets[name].listings)[: plan.symbols],
            store=store,
            active_faults=ActiveFaults(
                pool=pools[exchange.venue.weight_pool], everywhere=everywhere
            ),
            seed=plan.seed,
        )
        for name, exchange in exchanges.items()
    ]


def _config(plan: ProofPlan, venues: Sequence[VenueProof]) -> Config:
    default = VENUES[venues[0].name]
    symbols = tuple(
        full_name(VENUES[venue.name], symbol, default)
        for venue in venues
        for symbol in venue.symbols
    )
    return Config(
        symbols=symbols,
        intervals=INTERVALS,
        venue=default,
        store="memory:",
        history=plan.history,
        lookback_s=plan.lookback_s,
        max_symbols=len(symbols),
        command_bind=_LOOPBACK,
        status_bind=_LOOPBACK,
        read_bind=None,
        agent_ip=_LOOPBACK.host,
        self_update_interval_s=3600,
    )


async def _watch(
    venues: Sequence[VenueProof], lifecycle: Lifecycle, turns: Turns, ends_at: float
) -> None:
    """Look at the running agent until `ends_at`.

    Raises:
        ProofFailed: it broke a promise.
    """
    look_at = trio.current_time() + LOOK_EVERY_S
    while (now := trio.current_time()) < ends_at:
        await trio.sleep(min(TIME_GAPS_EVERY_S, ends_at - now))
        if lifecycle.failures:
            raise lifecycle.failures[0]
        struck, since = turns.alone(now)
        for venue in venues:
            venue.check_limits()
            if lifecycle.agent is None:
                continue
            venue.audit.time_gaps(lifecycle.agent, lifecycle.started_at)
            if struck not in {None, venue.name}:
                venue.time_arrivals(lifecycle.agent, lifecycle.started_at, since)
            if now >= look_at:
                now_ms = venue.exchange.clock.now_ms()
                venue.audit.look(lifecycle.agent, lifecycle.started_at, now_ms)
        if now >= look_at and lifecycle.agent is not None:
            look_at += LOOK_EVERY_S


def _check_series(plan: ProofPlan, venues: Sequence[VenueProof], lifecycle: Lifecycle) -> None:
    """Check every series from its beginning to now."""
    if lifecycle.agent is None:
        raise ProofFailed("no agent is running, though the last fault was a while ago")
    for venue in venues:
        venue.check_series(plan, lifecycle.agent, START_MS, _set_aside(lifecycle))


def _set_aside(lifecycle: Lifecycle) -> set[tuple[str, str, str, int]]:
    """Candles among the dead letters, by (venue, symbol, interval, open time)."""
    letters = [path for path in lifecycle.disk.paths if path.startswith("dead/")]
    return {
        (kline.venue, kline.symbol, kline.interval, kline.open_time)
        for path in letters
        for kline in decode(lifecycle.disk.read(path)).batch.klines
    }


def _report(
    venues: Sequence[VenueProof], lifecycle: Lifecycle, injected: Counter[str]
) -> ProofReport:
    by_venue = Counter({each.name: each.oracle.checked for each in venues})
    for venue in venues:
        for kind, number in venue.exchange.faults.injected.items():
            injected[f"twin: {kind}"] += number
    return ProofReport(
        runs=1,
        candles=by_venue.total(),
        by_venue=by_venue,
        in_time=+Counter({each.name: each.audit.in_time for each in venues}),
        starts=lifecycle.starts,
        injected=injected,
        repairs=lifecycle.repairs,
        limits=Counter(LIMITS),
        absent=sum((each.oracle.absent for each in venues), Counter[str]()),
        reads=sum((each.reader.counts for each in venues), Counter[str]()),
        heard=sum((each.listener.counts for each in venues), Counter[str]()),
        digest="-".join(each.oracle.digest for each in venues),
    )
