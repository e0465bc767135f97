"""Adding, removing, and doing both at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.core.errors import (
    InvalidRequest,
    NotRunning,
    RequestError,
    ShuttingDown,
    SymbolLimitReached,
)
from klineagent.core.interval import Interval
from klineagent.testing.simulation import Simulation, open_simulation

SOL = ("SOLUSDT", Interval.M15)


async def _outcome(call: Callable[[], Awaitable[object]]) -> object:
    try:
        return await call()
    except RequestError as error:
        return type(error)


async def _together(*calls: Callable[[], Awaitable[object]]) -> list[object]:
    """What becomes of calls that begin at once; each has ten seconds."""
    outcomes: list[object] = []

    async def run(call: Callable[[], Awaitable[object]]) -> None:
        with trio.fail_after(10):
            outcomes.append(await _outcome(call))

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(run, call)
    return outcomes


async def test_an_add_that_is_given_up_leaves_nothing(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Not confirmed in time is as if it had never been asked for."""
    registry = simulation.agent.registry
    with simulation.exchange.offline(), pytest.raises(trio.TooSlowError), trio.fail_after(29):
        await registry.add(*SOL)
    assert registry.count() == 9
    assert await registry.add(*SOL)
    assert not await registry.add(*SOL)
    assert registry.count() == 10


async def test_of_two_who_add_the_same_one_starts_it(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The other finds it running."""
    registry = simulation.agent.registry
    outcomes = await _together(lambda: registry.add(*SOL), lambda: registry.add(*SOL))
    assert sorted(map(str, outcomes)) == ["False", "True"]


async def test_who_gives_up_does_not_take_another_along(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The second goes on in its own right when the first has no more patience."""
    registry = simulation.agent.registry
    patient: list[object] = []

    async def wait() -> None:
        patient.append(await registry.add(*SOL))

    async with trio.open_nursery() as nursery:
        with simulation.exchange.offline():
            with trio.move_on_after(5):
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(registry.add, *SOL)
                    await wait_all_tasks_blocked()
                    nursery.start_soon(wait)
            await trio.sleep(5)
    assert patient == [True]


async def test_two_who_add_what_does_not_exist_get_the_same_answer(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """It is wrong for both."""
    registry = simulation.agent.registry
    wrong = ("NOSUCHUSDT", Interval.M1)
    outcomes = await _together(lambda: registry.add(*wrong), lambda: registry.add(*wrong))
    assert outcomes == [InvalidRequest, InvalidRequest]


@pytest.mark.parametrize("steps", range(6))
async def test_adding_while_it_is_removed_ends_with_it_running(
    autojump_clock: MockClock, simulation: Simulation, steps: int
) -> None:
    """However the two interleave, who was told that it was started finds it there."""
    registry = simulation.agent.registry
    await registry.add(*SOL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.remove, *SOL)
        for _ in range(steps + 1):
            await trio.lowlevel.checkpoint()
        started = await registry.add(*SOL)
    if started:
        assert registry.count() == 10


async def test_symbols_that_do_not_trade_are_refused(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The exchange would acknowledge them and stay silent, so they are checked first."""
    registry = simulation.agent.registry
    for symbol, reason in [("NOSUCHUSDT", "does not exist"), ("OMGUSDT", "does not trade")]:
        with pytest.raises(InvalidRequest, match=reason):
            await registry.add(symbol, Interval.M1)
    with pytest.raises(InvalidRequest, match="usdm has no 1s klines"):
        await registry.add("BTCUSDT", Interval.S1)
    assert registry.count() == 9


async def test_wrong_symbols_take_no_place_under_the_limit(autojump_clock: MockClock) -> None:
    """What does not exist cannot keep out what does."""
    async with open_simulation(symbols=["BTCUSDT"], max_symbols=2) as simulation:
        registry = simulation.agent.registry
        calls = [
            lambda symbol=symbol: registry.add(symbol, Interval.M1)
            for symbol in ("BAD1", "BAD2", "ETHUSDT", "BAD3")
        ]
        outcomes = await _together(*calls)
        assert sorted(map(str, outcomes)) == [str(InvalidRequest)] * 3 + ["True"]
        with pytest.raises(SymbolLimitReached, match="one more than the 2 symbols"):
            await registry.add("币安人生USDT", Interval.M1)
        assert await registry.add("ETHUSDT", Interval.H1)


async def test_removing_what_does_not_run(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """It is told, and nothing happens."""
    with pytest.raises(NotRunning, match="SOLUSDT 15m does not run"):
        await simulation.agent.registry.remove(*SOL)


async def test_removing_during_an_outage_does_not_wait_for_the_exchange(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """What is not carried needs no UNSUBSCRIBE, and does not come back with the exchange."""
    registry = simulation.agent.registry
    with simulation.exchange.offline():
        await trio.sleep(60)
        with trio.fail_after(5):
            await simulation.agent.desired.remove("BTCUSDT", Interval.M1)
        await trio.sleep(60)
    await trio.sleep(3600)
    assert registry.count() == 8


async def test_an_add_that_waits_does_not_hold_up_the_stop(autojump_clock: MockClock) -> None:
    """It is refused at once, and the agent ends."""
    outcomes: list[object] = []
    async with trio.open_nursery() as nursery:
        async with open_simulation() as simulation, AsyncExitStack() as outage:
            registry = simulation.agent.registry
            outage.enter_context(simulation.exchange.offline())

            async def add() -> None:
                outcomes.append(await _outcome(lambda: registry.add(*SOL)))

            await trio.sleep(1)
            nursery.start_soon(add)
            await trio.sleep(2)
            # The outage goes on until the agent has ended.
            outage.pop_all()
            stopped_at = trio.current_time()
        assert trio.current_time() - stopped_at < 5
    assert outcomes == [ShuttingDown]


async def test_confirmed_streams_that_say_nothing_are_told_of_and_healed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong route acknowledges everything and stays silent: new connections do not help."""
    async with open_simulation(ws_url="wss://exchange.test/public") as simulation:
        await trio.sleep(3600)
        registry = simulation.agent.registry
        assert all(info.is_active for info in registry.listing())
        assert registry.missing() == 0
        assert registry.context.counts.missed >= 3 * (58 + 11)
    replaced = [vars(record) for record in caplog.records if record.msg == "feed_replaced"]
    assert 2 <= len(replaced) <= 8
    assert all("candles were not delivered" in str(each["reason"]) for each in replaced)


@pytest.mark.parametrize("steps", range(12))
async def test_an_add_cancelled_at_any_moment_leaves_nothing(
    autojump_clock: MockClock, simulation: Simulation, steps: int
) -> None:
    """Who was not told that it runs can rely on its not running."""
    registry = simulation.agent.registry
    told = False
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def add() -> None:
                nonlocal told
                told = await registry.add(*SOL)

            nursery.start_soon(add)
            await trio.sleep(0.001)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert registry.count() == (10 if told else 9)


async def test_what_is_kept_twice_runs_once(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The one that runs is left as it is."""
    registry = simulation.agent.registry
    before = registry.subscriptions()
    registry.keep("BTCUSDT", Interval.M1)
    assert registry.subscriptions() == before


async def test_what_is_dropped_has_ended_whatever_the_exchange_says(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Its places are free at once, and what does not run is no obstacle."""
    registry = simulation.agent.registry
    with simulation.exchange.offline():
        began_at = trio.current_time()
        await registry.drop([("BTCUSDT", Interval.M1), SOL, ("NOSUCH", Interval.M1)])
        assert trio.current_time() == began_at
    assert registry.subscription("BTCUSDT", Interval.M1) is None
    assert registry.count() == 8
