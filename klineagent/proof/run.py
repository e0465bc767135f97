"""One run of the proof: exchange, store, process lifecycle and fault schedule from one seed."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from importlib import import_module
from itertools import product

import trio
from trio.testing import MockClock

from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import COINM, SPOT, USDM
from klineagent.proof.active_faults import ActiveFaults
from klineagent.proof.audit import ProofAudit
from klineagent.proof.lifecycle import Lifecycle
from klineagent.proof.oracle import Oracle, name_of
from klineagent.proof.plan import ProofFailed, ProofPlan, ProofReport
from klineagent.proof.schedule import FaultTargets, inject
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.segment import decode
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named

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
    "messages a second and connection",
    "streams a connection",
    "connection attempts in five minutes",
)
_VENUES = (USDM, USDM, USDM, SPOT, COINM)
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
    """Run `plan`; a failure is appended to `seen` and ends the run."""
    venue = _VENUES[plan.seed % len(_VENUES)]
    market = EventfulMarket(
        RandomMarket(
            symbols=plan.symbols,
            seed=plan.seed,
            start_ms=START_MS,
            venue_name=venue.name,
            history_ms=plan.listed_days * DAY_MS,
        )
    )
    symbols = tuple(listing.symbol for listing in market.listings)[: plan.symbols]
    intervals = tuple(each for each in Interval if each is not Interval.S1)
    store = MemoryStore()
    oracle = Oracle(market=market, venue_name=venue.name)
    active_faults = ActiveFaults()
    audit = ProofAudit(
        store=store, venue_name=venue.name, active_faults=active_faults, oracle=oracle
    )
    config = Config(
        symbols=symbols,
        intervals=intervals,
        venue=venue,
        store="memory:",
        history=plan.history,
        lookback_s=plan.lookback_s,
        max_symbols=len(symbols),
        command_bind=_LOOPBACK,
        status_bind=_LOOPBACK,
        agent_ip=_LOOPBACK.host,
        self_update_interval_s=3600,
    )
    injected: Counter[str] = Counter()
    async with (
        open_exchange(market, venue_named(venue.name), tick_ms=TICK_MS, seed=plan.seed) as exchange,
        trio.open_nursery() as connections,
        trio.open_nursery() as tasks,
    ):
        lifecycle = Lifecycle(
            config=config,
            network=TwinNetwork(exchange, connections),
            store=store,
            oracle=oracle,
            chance=random.Random(plan.seed),  # noqa: S311 - no secret
        )
        ends_at = trio.current_time() + plan.days * DAY_S
        for kind in plan.kinds:
            targets = FaultTargets(
                exchange=exchange,
                market=market,
                store=store,
                lifecycle=lifecycle,
                active_faults=active_faults,
                symbols=symbols,
                chance=random.Random(f"{plan.seed}/{kind}"),  # noqa: S311 - no secret
            )
            strike = partial(inject, pause_s=plan.pause_s, until=ends_at - SETTLE_S)
            tasks.start_soon(strike, kind, targets, injected)
        tasks.start_soon(lifecycle.run)
        try:
            look_at = trio.current_time() + LOOK_EVERY_S
            while (now := trio.current_time()) < ends_at:
                await trio.sleep(min(TIME_GAPS_EVERY_S, ends_at - now))
                _check_so_far(lifecycle, exchange)
                if lifecycle.agent is not None:
                    audit.time_gaps(lifecycle.agent, lifecycle.started_at)
                    if now >= look_at:
                        audit.look(lifecycle.agent, lifecycle.started_at, exchange.clock.now_ms())
                        look_at += LOOK_EVERY_S
            _check_series(plan, lifecycle, oracle, exchange)
        except ProofFailed as failure:
            seen.append(failure)
        lifecycle.account()
        tasks.cancel_scope.cancel(reason="the run is over")
        connections.cancel_scope.cancel(reason="the run is over")
    return ProofReport(
        runs=1,
        candles=oracle.checked,
        starts=lifecycle.starts,
        injected=injected + Counter({f"twin: {k}": n for k, n in exchange.faults.injected.items()}),
        repairs=lifecycle.repairs,
        limits=Counter(LIMITS),
        absent=oracle.absent,
        digest=oracle.digest,
    )


def _check_so_far(lifecycle: Lifecycle, exchange: Exchange) -> None:
    if lifecycle.failures:
        raise lifecycle.failures[0]
    if exchange.breaches:
        raise ProofFailed(f"limits of the exchange were broken: {dict(exchange.breaches)}")


def _check_series(
    plan: ProofPlan, lifecycle: Lifecycle, oracle: Oracle, exchange: Exchange
) -> None:
    """Check every series from its beginning to now."""
    if lifecycle.agent is None:
        raise ProofFailed("no agent is running, though the last fault was a while ago")
    set_aside = _set_aside(lifecycle)
    registry = lifecycle.agent.registry
    recorded = {(each.symbol, each.interval): each.ledger for each in registry.subscriptions()}
    for series in product(lifecycle.config.symbols, lifecycle.config.intervals):
        if (ledger := recorded.get(series)) is None:
            raise ProofFailed(f"{name_of(*series, START_MS)} and all after it are not recorded")
        oracle.check_series(
            lifecycle.store,
            ledger,
            series[0],
            begin_ms=START_MS,
            history=plan.history,
            # The newest candle may not be due yet.
            end_ms=exchange.clock.now_ms() - MINUTE_MS,
            set_aside=set_aside,
        )


def _set_aside(lifecycle: Lifecycle) -> set[tuple[str, str, int]]:
    """Candles among the dead letters, by (symbol, interval, open time)."""
    letters = [path for path in lifecycle.disk.paths if path.startswith("dead/")]
    return {
        (kline.symbol, kline.interval, kline.open_time)
        for path in letters
        for kline in decode(lifecycle.disk.read(path)).batch.klines
    }
