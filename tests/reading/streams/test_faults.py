"""What clients of streams hear while the exchange fails and lies: the market, candle by candle."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import COINM, SPOT, USDM, Venue
from klineagent.testing.simulation import Simulation, open_simulation
from tests.reading.streams.listening import Listening, listening, streams_of
from tests.simulations.looking import HOUR_S

SYMBOL = {"usdm": "BTCUSDT", "spot": "BTCUSDT", "coinm": "BTCUSD_PERP"}
FIELDS = "ohlcvqVQ"
SEEDS = range(int(os.environ.get("KLINEAGENT_SEEDS", "1")))


@define
class Heard:
    """What one client has heard."""

    events: list[dict[str, Any]] = field(factory=list)

    async def listen(self, client: Listening) -> None:
        while True:
            self.events.append((await client.message())["data"]["k"])

    @property
    def closed(self) -> dict[int, dict[str, Any]]:
        return {event["t"]: event for event in self.events if event["x"]}


async def _misfortunes(simulation: Simulation, dice: random.Random) -> None:
    """One fault after another."""
    exchange = simulation.exchange
    faults, lies = exchange.faults, exchange.lies
    kinds = [
        faults.losing_closings,
        faults.doubling_closings,
        faults.delaying_closings,
        faults.reordering,
        faults.early_opens,
        faults.failing_rest,
        lies.late_forming,
        exchange.offline,
    ]
    while True:
        await trio.sleep(dice.uniform(20, 200))
        with ExitStack() as active:
            for kind in dice.sample(kinds, dice.randint(1, 2)):
                active.enter_context(kind())
            await trio.sleep(dice.uniform(5, 130))
        if dice.random() < 0.3:
            faults.reset_connections()


@pytest.mark.slow
@pytest.mark.parametrize("venue", [USDM, COINM, SPOT], ids=lambda each: each.name)
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_candle_is_the_markets(
    seed: int, venue: Venue, autojump_clock: MockClock
) -> None:
    """Each closes once, with the exchange's numbers, and is the last word about it."""
    symbol = SYMBOL[venue.name]
    async with (
        open_simulation(
            symbols=[symbol], intervals=[Interval.M1], venue=venue, tick_ms=5_000
        ) as simulation,
        streams_of(simulation) as hub,
        listening(
            hub,
            f"/stream?streams={symbol.lower()}@kline_1m",
        ) as client,
        trio.open_nursery() as nursery,
    ):
        heard = Heard()
        nursery.start_soon(heard.listen, client)
        with trio.move_on_after(HOUR_S / 2):
            await _misfortunes(simulation, random.Random(f"{venue.name} {seed}"))
        await trio.sleep(300)
        nursery.cancel_scope.cancel()
    opens = [event["t"] for event in heard.events if event["x"]]
    assert len(opens) == len({*opens})
    assert {*opens} == {*range(min(opens), max(opens) + 1, MINUTE_MS)}
    assert len(opens) > 30
    late = sum(later < earlier for earlier, later in pairwise(opens))
    assert late < len(opens) / 10
    _check_last_words(heard)
    for open_ms, event in heard.closed.items():
        assert _told_by_exchange(simulation, open_ms) == [event[name] for name in FIELDS]


def _check_last_words(heard: Heard) -> None:
    """No forming state follows the end of its candle, nor an older one a newer."""
    closed: set[int] = set()
    newest = 0
    for event in heard.events:
        if event["x"]:
            closed.add(event["t"])
        else:
            assert event["t"] not in closed
            assert event["t"] >= newest
        newest = max(newest, event["t"])


def _told_by_exchange(simulation: Simulation, open_ms: int) -> list[str]:
    """The numbers of a candle as the exchange's REST API writes them."""
    exchange = simulation.exchange
    symbol = SYMBOL[exchange.venue.name]
    query = {"symbol": symbol, "interval": "1m", "limit": "1"}
    query |= {"startTime": str(open_ms), "endTime": str(open_ms)}
    path = f"{exchange.venue.rest_prefix}/klines"
    answer = exchange.rest.answer("GET", path, query, exchange.clock.now_ms()).body
    [row] = msgspec.json.decode(answer)
    opened, *prices, volume, _, quote, _, bought, bought_quote, _ = row
    assert opened == open_ms
    return [*prices, volume, quote, bought, bought_quote]
