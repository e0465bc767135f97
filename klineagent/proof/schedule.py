"""The fault schedule: which faults strike when, from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal
from zlib import crc32

import trio
from attrs import frozen

from klineagent.core.interval import HOUR_MS, MINUTE_MS
from klineagent.core.kline import Kline
from klineagent.proof.active_faults import ActiveFaults
from klineagent.proof.lifecycle import RESTART_AFTER_S, Lifecycle
from klineagent.proof.turns import Turns
from klineagent.storage.memory.store import MemoryStore
from klineagent.twin.exchange import Exchange
from klineagent.twin.market.eventful import EventfulMarket

MINUTE_S = 60.0
HOUR_S = 3600.0
# How long the backfill of thousands of series takes at the rate that the exchange allows.
MOST_HEALING_S = 20 * MINUTE_S
# A frozen REST service for longer than this is not realistic.
LONGEST_S = {"frozen_klines": 15 * MINUTE_S}
# How far REST answers may lag behind the stream.
MOST_LAG_MS = 30_000
LONGEST_LAG_MS = 15 * MINUTE_MS
# The store refuses one row in this many.
REFUSED_ONE_IN = 200
OFTEN_REFUSED_ONE_IN = (2, 7, 40)
# By how much event times may be wrong; None for any time up to their candle's end. No two of these
# agree within seconds with the wrong times that the twin gives for `/time`.
WRONG_BY_MS = (None, 4_000, 7_000, 67_000, 17 * MINUTE_MS + 7_000, 25 * HOUR_MS, -7_000, -HOUR_MS)


@frozen(kw_only=True)
class FaultTargets:
    """What a fault can strike."""

    exchange: Exchange
    market: EventfulMarket
    store: MemoryStore
    lifecycle: Lifecycle
    active_faults: ActiveFaults
    symbols: tuple[str, ...]
    chance: random.Random
    """Dice for this kind alone, so that kinds do not influence each other."""


LastingFault = Callable[[FaultTargets], AbstractContextManager[None]]
InstantFault = Callable[[FaultTargets, float], None]
FaultSequence = Callable[[FaultTargets, float], Awaitable[None]]


def _share(targets: FaultTargets) -> float:
    return targets.chance.uniform(0.05, 0.6)


@contextmanager
def _refusing(targets: FaultTargets) -> Iterator[None]:
    """The store refuses certain rows, always the same ones."""
    with targets.store.refusing(_some_rows(targets, REFUSED_ONE_IN)):
        yield


@contextmanager
def _refusing_many(targets: FaultTargets) -> Iterator[None]:
    """The store refuses several rows of each batch, or all rows of one symbol."""
    symbol = targets.chance.choice(targets.symbols)
    refused = _some_rows(targets, targets.chance.choice(OFTEN_REFUSED_ONE_IN))
    if targets.chance.random() < 1 / 2:
        refused = lambda kline: kline.symbol == symbol  # noqa: E731 - one of two
    with targets.store.refusing(refused):
        yield


def _some_rows(targets: FaultTargets, one_in: int) -> Callable[[Kline], bool]:
    salt = targets.chance.getrandbits(32)
    return lambda k: not crc32(f"{salt}{k.symbol}{k.open_time}".encode()) % one_in


@contextmanager
def _away_with_a_full_disk(targets: FaultTargets) -> Iterator[None]:
    with targets.store.offline(), targets.lifecycle.disk.full():
        yield


@contextmanager
def _away_with_a_bad_disk(targets: FaultTargets) -> Iterator[None]:
    with targets.store.offline(), targets.lifecycle.disk.failing_sync():
        yield


@contextmanager
def _halting(targets: FaultTargets) -> Iterator[None]:
    halted = targets.chance.sample(targets.symbols, max(1, len(targets.symbols) // 3))
    # On futures every interval has a candle, a flat one if nothing was traded.
    is_flat = not targets.exchange.venue.may_skip_candles or targets.chance.choice([False, True])
    with targets.market.halting(halted, flat=is_flat):
        yield


def _refusing_rest(targets: FaultTargets) -> AbstractContextManager[None]:
    status: Literal[418, 429] = targets.chance.choice([418, 429])
    headers, words = targets.chance.choice([(True, True), (False, True), (False, False)])
    return targets.exchange.faults.refusing_rest(status, headers=headers, tells_until=words)


def _wrong_times(targets: FaultTargets) -> AbstractContextManager[None]:
    by_ms = targets.chance.choice(WRONG_BY_MS)
    # An occasional frame, many, or all.
    share = targets.chance.choice([0.002, 0.1, 1.0])
    return targets.exchange.lies.wrong_times(share, by_ms=by_ms)


def _announce(targets: FaultTargets, _: float) -> None:
    shape: Literal["wire", "sdk"] = targets.chance.choice(["wire", "sdk"])
    targets.exchange.faults.announce_shutdown(shape)


LASTING: dict[str, LastingFault] = {
    "losing_closings": lambda w: w.exchange.faults.losing_closings(_share(w)),
    "delaying_closings": lambda w: w.exchange.faults.delaying_closings(_share(w)),
    "doubling_closings": lambda w: w.exchange.faults.doubling_closings(_share(w)),
    "reordering": lambda w: w.exchange.faults.reordering(_share(w)),
    "early_opens": lambda w: w.exchange.faults.early_opens(_share(w)),
    "quiet_empties": lambda w: w.exchange.faults.quiet_empties(),
    "garbling": lambda w: w.exchange.faults.garbling(_share(w)),
    "truncating": lambda w: w.exchange.faults.truncating(_share(w)),
    "fragmenting": lambda w: w.exchange.faults.fragmenting(_share(w)),
    "silent_acks": lambda w: w.exchange.faults.silent_acks(_share(w)),
    "stalling": lambda w: w.exchange.faults.stalling(w.chance.choice([0.5, 1.0])),
    "offline": lambda w: w.exchange.offline(),
    "lagging_rest": lambda w: w.exchange.faults.lagging_rest(w.chance.randint(1, MOST_LAG_MS)),
    "refusing_rest": _refusing_rest,
    "lying_weights": lambda w: w.exchange.faults.lying_weights(w.chance.choice([0, 0.5, 3])),
    "hiding_weights": lambda w: w.exchange.faults.hiding_weights(),
    "failing_rest": lambda w: w.exchange.faults.failing_rest(_share(w)),
    "hanging_rest": lambda w: w.exchange.faults.hanging_rest(),
    "hanging_klines": lambda w: w.exchange.faults.hanging_rest("/klines"),
    "late_forming": lambda w: w.exchange.lies.late_forming(_share(w)),
    "repeated_closings": lambda w: w.exchange.lies.repeated_closings(_share(w)),
    "wrong_times": _wrong_times,
    "crossed_streams": lambda w: w.exchange.lies.crossed_streams(_share(w)),
    "contradictions": lambda w: w.exchange.lies.contradictions(_share(w)),
    "wrong_server_time": lambda w: w.exchange.lies.wrong_server_time(_share(w)),
    "lagging_long": lambda w: w.exchange.faults.lagging_rest(w.chance.randint(1, LONGEST_LAG_MS)),
    "stale_klines": lambda w: w.exchange.lies.stale_klines(_share(w), most_ms=LONGEST_LAG_MS),
    "frozen_klines": lambda w: w.exchange.lies.frozen_klines(),
    "empty_klines": lambda w: w.exchange.lies.empty_klines(w.chance.choice([0.3, 1.0])),
    "missing_klines": lambda w: w.exchange.lies.missing_klines(w.chance.choice([0.3, 1.0])),
    "off_grid_klines": lambda w: w.exchange.lies.off_grid_klines(_share(w)),
    "odd_rows": lambda w: w.exchange.lies.odd_rows(w.chance.choice([0.3, 1.0])),
    "odd_symbols": lambda w: w.exchange.lies.odd_symbols(w.chance.choice([0.3, 1.0])),
    "short_lists": lambda w: w.exchange.lies.short_lists(_share(w)),
    "halting": _halting,
    "store_offline": lambda w: w.store.offline(),
    "store_losing_answers": lambda w: w.store.losing_answers(),
    "store_overloaded": lambda w: w.store.overloaded(),
    "store_misconfigured": lambda w: w.store.misconfigured(),
    "store_slow": lambda w: w.store.slow(w.chance.uniform(1, 40)),
    "store_refusing": _refusing,
    "store_refusing_many": _refusing_many,
    "disk_full": _away_with_a_full_disk,
    "disk_failing": _away_with_a_bad_disk,
}
"""Faults that last for a while."""

INSTANT: dict[str, InstantFault] = {
    "reset": lambda w, _: w.exchange.faults.reset_connections(w.chance.choice([0.5, 1.0])),
    "close_1001": lambda w, _: w.exchange.faults.close_connections(),
    "shutdown_notice": _announce,
    "stop": lambda w, down_s: w.lifecycle.stop(down_s),
    "kill": lambda w, down_s: w.lifecycle.kill(down_s),
    "power_cut": lambda w, down_s: w.lifecycle.cut_power(down_s),
}
"""Faults that are over at once; an agent that was ended stays down for a while."""


async def _kill_while_healing(targets: FaultTargets, lasts_s: float) -> None:
    """Kill agents after an outage, while they fetch missing candles and while they start.

    Candles that close meanwhile are stored, so no row in the store shows what was not fetched.
    """
    during, chance = targets.active_faults.during, targets.chance
    with during("offline"), targets.exchange.offline():
        await trio.sleep(lasts_s)
    with during("hanging_klines"), targets.exchange.faults.hanging_rest("/klines"):
        for _ in range(chance.choice([1, 3])):
            await trio.sleep(chance.uniform(0, MOST_HEALING_S))
            targets.lifecycle.kill(RESTART_AFTER_S)
            await trio.sleep(RESTART_AFTER_S)


SEQUENCES: dict[str, FaultSequence] = {"kill_while_healing": _kill_while_healing}
"""Faults that follow one another."""

KINDS = (*LASTING, *INSTANT, *SEQUENCES)
"""The names of all kinds of faults."""

OF_ALL = frozenset({"stop", "kill", "power_cut", "kill_while_healing"}) | {
    kind for kind in KINDS if kind.startswith(("store", "disk"))
}
"""Kinds that strike all venues at once."""


async def inject(
    kind: str,
    targets: FaultTargets,
    injected: Counter[str],
    *,
    turns: Turns,
    pause_s: float,
    until: float,
) -> None:
    """Inject faults of one kind until `until` by Trio's clock, every `pause_s` on average.

    Kinds are independent of each other; none lasts longer than the turn in which it strikes.
    """
    struck = None if kind in OF_ALL else targets.exchange.venue.name
    mean_s = pause_s * turns.share(struck)
    while True:
        pause_s = targets.chance.expovariate(1 / mean_s)
        lasts_s = targets.chance.choice([20.0, 2 * MINUTE_S, 15 * MINUTE_S, HOUR_S])
        lasts_s = min(lasts_s, LONGEST_S.get(kind, lasts_s))
        turn_ends_at = await turns.let_pass(struck, pause_s)
        if (now := trio.current_time()) + lasts_s > until:
            return
        lasts_s = min(lasts_s, turn_ends_at - now)
        injected[kind] += 1
        if kind in INSTANT:
            INSTANT[kind](targets, lasts_s)
        elif kind in SEQUENCES:
            with trio.move_on_at(turn_ends_at):
                await SEQUENCES[kind](targets, lasts_s)
        else:
            with targets.active_faults.during(kind), LASTING[kind](targets):
                await trio.sleep(lasts_s)
