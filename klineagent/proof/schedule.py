"""Which faults strike when: a schedule that follows from a seed."""

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
from klineagent.proof.active_faults import Weather
from klineagent.proof.lifecycle import RESTART_AFTER_S, Life
from klineagent.storage.memory.store import MemoryStore
from klineagent.twin.exchange import Exchange
from klineagent.twin.market.eventful import EventfulMarket

MINUTE_S = 60.0
HOUR_S = 3600.0
# How long a market of thousands takes to be healed, at the rate that the exchange allows.
MOST_HEALING_S = 20 * MINUTE_S
# Longer than that nobody need expect of a service that it stands still.
LONGEST_S = {"frozen_klines": 15 * MINUTE_S}
# REST answers may be this much older than the stream.
MOST_LAG_MS = 30_000
LONGEST_LAG_MS = 15 * MINUTE_MS
# One row in so many is refused while a fault makes the store do so.
REFUSED_ONE_IN = 200
OFTEN_REFUSED_ONE_IN = (2, 7, 40)
# By how much events may tell a wrong time; None for any up to their candle's end. No two of these
# agree within seconds with what the twin makes up for `/time`.
WRONG_BY_MS = (None, 4_000, 7_000, 67_000, 17 * MINUTE_MS + 7_000, 25 * HOUR_MS, -7_000, -HOUR_MS)


@frozen(kw_only=True)
class World:
    """What a fault may strike."""

    exchange: Exchange
    market: EventfulMarket
    store: MemoryStore
    life: Life
    weather: Weather
    symbols: tuple[str, ...]
    chance: random.Random
    """For this kind of fault alone, so that kinds do not change each other's course."""


Block = Callable[[World], AbstractContextManager[None]]
Shot = Callable[[World, float], None]
Tale = Callable[[World, float], Awaitable[None]]


def _share(world: World) -> float:
    return world.chance.uniform(0.05, 0.6)


@contextmanager
def _refusing(world: World) -> Iterator[None]:
    """The store takes none of certain rows: the same ones each time it is asked."""
    with world.store.refusing(_some_rows(world, REFUSED_ONE_IN)):
        yield


@contextmanager
def _refusing_many(world: World) -> Iterator[None]:
    """It takes so few rows that each batch has several it refuses, or none of a symbol's."""
    symbol = world.chance.choice(world.symbols)
    refused = _some_rows(world, world.chance.choice(OFTEN_REFUSED_ONE_IN))
    if world.chance.random() < 1 / 2:
        refused = lambda kline: kline.symbol == symbol  # noqa: E731 - one of two
    with world.store.refusing(refused):
        yield


def _some_rows(world: World, one_in: int) -> Callable[[Kline], bool]:
    salt = world.chance.getrandbits(32)
    return lambda k: not crc32(f"{salt}{k.symbol}{k.open_time}".encode()) % one_in


@contextmanager
def _away_with_a_full_disk(world: World) -> Iterator[None]:
    with world.store.offline(), world.life.disk.full():
        yield


@contextmanager
def _away_with_a_bad_disk(world: World) -> Iterator[None]:
    with world.store.offline(), world.life.disk.failing_sync():
        yield


@contextmanager
def _halting(world: World) -> Iterator[None]:
    halted = world.chance.sample(world.symbols, max(1, len(world.symbols) // 3))
    # On futures every interval has a candle; a flat one where nothing was traded.
    is_flat = not world.exchange.venue.may_lack_candles or world.chance.choice([False, True])
    with world.market.halting(halted, flat=is_flat):
        yield


def _refusing_rest(world: World) -> AbstractContextManager[None]:
    status: Literal[418, 429] = world.chance.choice([418, 429])
    headers, words = world.chance.choice([(True, True), (False, True), (False, False)])
    return world.exchange.faults.refusing_rest(status, headers=headers, tells_until=words)


def _wrong_times(world: World) -> AbstractContextManager[None]:
    by_ms = world.chance.choice(WRONG_BY_MS)
    # One frame in a while, many, or all.
    share = world.chance.choice([0.002, 0.1, 1.0])
    return world.exchange.lies.wrong_times(share, by_ms=by_ms)


def _announce(world: World, _: float) -> None:
    shape: Literal["wire", "sdk"] = world.chance.choice(["wire", "sdk"])
    world.exchange.faults.announce_shutdown(shape)


BLOCKS: dict[str, Block] = {
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

SHOTS: dict[str, Shot] = {
    "reset": lambda w, _: w.exchange.faults.reset_connections(w.chance.choice([0.5, 1.0])),
    "close_1001": lambda w, _: w.exchange.faults.close_connections(),
    "shutdown_notice": _announce,
    "stop": lambda w, down_s: w.life.stop(down_s),
    "kill": lambda w, down_s: w.life.kill(down_s),
    "power_cut": lambda w, down_s: w.life.cut_power(down_s),
}
"""Faults that are over at once, but for the agent's end: it stays down for a while."""


async def _kill_while_healing(world: World, lasts_s: float) -> None:
    """After an outage agents are killed while they fetch what is missing, and as they start.

    Meanwhile what closes anew is stored; in the end no row tells of what they did not get to.
    """
    strike, chance = world.weather.striking, world.chance
    with strike("offline"), world.exchange.offline():
        await trio.sleep(lasts_s)
    with strike("hanging_klines"), world.exchange.faults.hanging_rest("/klines"):
        for _ in range(chance.choice([1, 3])):
            await trio.sleep(chance.uniform(0, MOST_HEALING_S))
            world.life.kill(RESTART_AFTER_S)
            await trio.sleep(RESTART_AFTER_S)


TALES: dict[str, Tale] = {"kill_while_healing": _kill_while_healing}
"""Faults that follow each other."""

KINDS = (*BLOCKS, *SHOTS, *TALES)
"""Names of all faults."""


async def rage(
    kind: str, world: World, injected: Counter[str], *, pause_s: float, until: float
) -> None:
    """Let one kind of fault strike every `pause_s` or so until `until`, on Trio's clock.

    Each does so independently of the others.
    """
    mean_s = pause_s
    while True:
        pause_s = world.chance.expovariate(1 / mean_s)
        lasts_s = world.chance.choice([20.0, 2 * MINUTE_S, 15 * MINUTE_S, HOUR_S])
        lasts_s = min(lasts_s, LONGEST_S.get(kind, lasts_s))
        if trio.current_time() + pause_s + lasts_s > until:
            return
        await trio.sleep(pause_s)
        injected[kind] += 1
        if kind in SHOTS:
            SHOTS[kind](world, lasts_s)
        elif kind in TALES:
            await TALES[kind](world, lasts_s)
        else:
            with world.weather.striking(kind), BLOCKS[kind](world):
                await trio.sleep(lasts_s)
