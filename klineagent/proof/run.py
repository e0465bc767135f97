"""One proof: an exchange, a store, an agent's lives and a storm, from one seed."""

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
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import COINM, SPOT, USDM
from klineagent.proof.active_faults import Weather
from klineagent.proof.audit import Audit
from klineagent.proof.lifecycle import Life
from klineagent.proof.oracle import Witness, name_of
from klineagent.proof.plan import Plan, ProofFailed, Report
from klineagent.proof.schedule import World, rage
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.segment import decode
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from klineagent.twin.venues import venue_named

DAY_S = 86_400.0
# After the last fault everything must be healed within this time: a ban and the longest wait
# between two tries together, and the history of whoever was started last.
SETTLE_S = 45 * 60.0
START_MS = 1_769_904_000_000  # 2026-02-01
# Between two looks at the agent: short, for what it overlooks a restart may repair.
LOOK_EVERY_S = 120.0
TIME_GAPS_EVERY_S = 20.0
# Few growing updates: they are not what is proven, and each costs as much as a closing one.
TICK_MS = 5 * MINUTE_MS
# What the twin watches; it closes connections, answers 429 and 418, and counts.
LIMITS = (
    "request weight a minute",
    "messages a second and connection",
    "streams a connection",
    "connection attempts in five minutes",
)
_VENUES = (USDM, USDM, USDM, SPOT, COINM)
_LOOPBACK = Bind("127.0.0.1", 0)


def prove(plan: Plan) -> Report:
    """Run `plan`.

    Raises:
        ProofFailed: at the first candle that is missing, wrong or doubled, or limit broken.
    """
    _make_deterministic(plan.seed)
    seen: list[ProofFailed] = []
    report = trio.run(_prove, plan, seen, clock=MockClock(autojump_threshold=0))
    if seen:
        raise seen[0]
    return report


def _make_deterministic(seed: int) -> None:
    """Let jitter, ids and the order of tasks follow from `seed`."""
    random.seed(seed)
    # Trio shuffles tasks on purpose. This is how Hypothesis makes it repeat itself, too.
    scheduler = vars(import_module("trio._core._run"))
    scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    scheduler["_r"] = random.Random(seed)  # noqa: S311 - no secret


async def _prove(plan: Plan, seen: list[ProofFailed]) -> Report:
    """Run `plan`; what must not be is put into `seen`, and ends the run."""
    venue = _VENUES[plan.seed % len(_VENUES)]
    market = EventfulMarket(
        RandomMarket(symbols=plan.symbols, seed=plan.seed, start_ms=START_MS, venue_name=venue.name)
    )
    symbols = tuple(listing.symbol for listing in market.listings)[: plan.symbols]
    intervals = tuple(each for each in Interval if each is not Interval.S1)
    store = MemoryStore()
    witness = Witness(market=market, venue_name=venue.name)
    weather = Weather()
    audit = Audit(store=store, venue_name=venue.name, weather=weather, witness=witness)
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
        life = Life(
            config=config,
            network=TwinNetwork(exchange, connections),
            store=store,
            witness=witness,
            chance=random.Random(plan.seed),  # noqa: S311 - no secret
        )
        ends_at = trio.current_time() + plan.days * DAY_S
        for kind in plan.kinds:
            world = World(
                exchange=exchange,
                market=market,
                store=store,
                life=life,
                weather=weather,
                symbols=symbols,
                chance=random.Random(f"{plan.seed}/{kind}"),  # noqa: S311 - no secret
            )
            strike = partial(rage, pause_s=plan.pause_s, until=ends_at - SETTLE_S)
            tasks.start_soon(strike, kind, world, injected)
        tasks.start_soon(life.live)
        try:
            look_at = trio.current_time() + LOOK_EVERY_S
            while (now := trio.current_time()) < ends_at:
                await trio.sleep(min(TIME_GAPS_EVERY_S, ends_at - now))
                _check_so_far(life, exchange)
                if life.agent is not None:
                    audit.time_gaps(life.agent, life.started_at)
                    if now >= look_at:
                        audit.look(life.agent, life.started_at, exchange.clock.now_ms())
                        look_at += LOOK_EVERY_S
            _check_series(plan, life, witness, exchange)
        except ProofFailed as failure:
            seen.append(failure)
        life.account()
        tasks.cancel_scope.cancel(reason="it is proven")
        connections.cancel_scope.cancel(reason="it is proven")
    return Report(
        runs=1,
        candles=witness.checked,
        lives=life.lives,
        injected=injected + Counter({f"twin: {k}": n for k, n in exchange.faults.injected.items()}),
        repairs=life.repairs,
        limits=Counter(LIMITS),
        absent=witness.absent,
        digest=witness.digest,
    )


def _check_so_far(life: Life, exchange: Exchange) -> None:
    if life.failures:
        raise life.failures[0]
    if exchange.breaches:
        raise ProofFailed(f"limits of the exchange were broken: {dict(exchange.breaches)}")


def _check_series(plan: Plan, life: Life, witness: Witness, exchange: Exchange) -> None:
    """Compare every series from its beginning to now."""
    if life.agent is None:
        raise ProofFailed("no agent is alive, though nothing has struck for a while")
    set_aside = _set_aside(life)
    registry = life.agent.registry
    recorded = {(each.symbol, each.interval): each.ledger for each in registry.subscriptions()}
    for series in product(life.config.symbols, life.config.intervals):
        if (ledger := recorded.get(series)) is None:
            raise ProofFailed(f"{name_of(*series, START_MS)} and all after it are not recorded")
        witness.check_series(
            life.store,
            ledger,
            series[0],
            begin_ms=START_MS,
            history=plan.history,
            # The newest may not be due yet.
            end_ms=exchange.clock.now_ms() - MINUTE_MS,
            set_aside=set_aside,
        )


def _set_aside(life: Life) -> set[tuple[str, str, int]]:
    """What lies among the dead letters."""
    letters = [path for path in life.disk.paths if path.startswith("dead/")]
    return {
        (kline.symbol, kline.interval, kline.open_time)
        for path in letters
        for kline in decode(life.disk.read(path)).batch.klines
    }
