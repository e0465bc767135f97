"""Lists that are cut short and invalid rows do not affect other symbols and candles."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.testing.simulation import Simulation, open_simulation
from tests.simulations.looking import MINUTE_S, not_stored, requests

PERPETUALS = {"match": {"name": "*USDT", "contract": "PERPETUAL"}, "intervals": ["1m"]}


def _only_the_first(info: dict[str, Any], _query: object) -> dict[str, Any]:
    return info | {"symbols": info["symbols"][:1]}


def _without_the_first(info: dict[str, Any], _query: object) -> dict[str, Any]:
    return info | {"symbols": info["symbols"][1:]}


def _mostly_odd(info: dict[str, Any], _query: object) -> dict[str, Any]:
    names = [each["symbol"] for each in info["symbols"][1:]]
    odd = [{"symbol": name, "status": None} for name in names]
    return info | {"symbols": [None, info["symbols"][0], *odd, 7]}


def _running(simulation: Simulation) -> list[str]:
    return [each.symbol for each in simulation.agent.registry.subscriptions()]


async def test_lists_without_some_symbols_end_no_series(autojump_clock: MockClock) -> None:
    """One without nearly all, for ten minutes; two without one; one that is invalid for long."""
    async with open_simulation(symbols=[], intervals=[Interval.M1], history=0) as simulation:
        client = simulation.agent.command.test_client()
        body = {"subscriptions": [PERPETUALS]}
        answer = await client.put("/v1/subscriptions", json=body)
        assert answer.status_code == 200, await answer.get_data()
        await trio.sleep(2 * MINUTE_S)
        before = simulation.agent.registry.subscriptions()
        assert len(before) > 3
        for lie, minutes in ((_only_the_first, 10), (_mostly_odd, 10), (_without_the_first, 2)):
            with simulation.exchange.faults.lying("/exchangeInfo", lie):
                await trio.sleep(minutes * MINUTE_S)
            await trio.sleep(2 * MINUTE_S)
            assert simulation.agent.registry.subscriptions() == before
        assert not_stored(simulation) == []
        with simulation.exchange.faults.lying("/exchangeInfo", _without_the_first):
            await trio.sleep(5 * MINUTE_S)
        assert _running(simulation) == [each.symbol for each in before[1:]]


def _too_many_trades(rows: list[list[Any]], query: Any) -> list[list[Any]]:
    if query["symbol"] != "BTCUSDT":
        return rows
    return [[*row[:8], 2**33, *row[9:]] for row in rows[:1]] + rows[1:]


async def test_a_candle_that_stays_invalid_is_requested_less_and_less_often(
    autojump_clock: MockClock,
) -> None:
    """Its neighbours in the answer are stored, and no other series waits for it."""
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    async with open_simulation(symbols=symbols, intervals=[Interval.M1], history=0) as simulation:
        await trio.sleep(10 * MINUTE_S)
        registry, faults = simulation.agent.registry, simulation.exchange.faults
        with faults.lying("/klines", _too_many_trades):
            with simulation.exchange.offline():
                await trio.sleep(15 * MINUTE_S)
            await trio.sleep(10 * MINUTE_S)
            failed, asked = registry.context.rest.counts.failed, requests(simulation)
            assert len(not_stored(simulation)) == registry.missing() == 1
            await trio.sleep(10 * MINUTE_S)
            assert registry.context.rest.counts.failed == failed
            assert requests(simulation) - asked <= 12
            assert len(not_stored(simulation)) == registry.missing() == 1
        await trio.sleep(3 * MINUTE_S)
        assert not_stored(simulation) == []
        assert registry.missing() == 0
