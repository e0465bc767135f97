"""Adding and removing subscriptions, alone and concurrently."""

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
from klineagent.series.registry import Places
from klineagent.testing.simulation import Simulation, open_simulation

SOL = ("SOLUSDT", Interval.M15)


async def _outcome(call: Callable[[], Awaitable[object]]) -> object:
    try:
        return await call()
    except RequestError as error:
        return type(error)


async def _together(*calls: Callable[[], Awaitable[object]]) -> list[object]:
    """The outcomes of calls that begin at once; each has ten seconds."""
    outcomes: list[object] = []

    async def run(call: Callable[[], Awaitable[object]]) -> None:
        with trio.fail_after(10):
            outcomes.append(await _outcome(call))

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(run, call)
    return outcomes


async def test_an_add_that_times_out_leaves_nothing(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """It is as if it had never been requested."""
    registry = simulation.agent.registry
    with simulation.exchange.offline(), pytest.raises(trio.TooSlowError), trio.fail_after(29):
        await registry.add(*SOL)
    assert registry.count() == 9
    assert await registry.add(*SOL)
    assert not await registry.add(*SOL)
    assert registry.count() == 10


async def test_of_two_concurrent_adds_one_starts_it(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The other finds it running."""
    registry = simulation.agent.registry
    outcomes = await _together(lambda: registry.add(*SOL), lambda: registry.add(*SOL))
    assert sorted(map(str, outcomes)) == ["False", "True"]


async def test_an_add_that_times_out_does_not_end_another(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The second goes on by itself when the first times out."""
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


async def test_two_adds_of_an_unknown_symbol_fail_alike(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Both get the same error."""
    registry = simulation.agent.registry
    wrong = ("NOSUCHUSDT", Interval.M1)
    outcomes = await _together(lambda: registry.add(*wrong), lambda: registry.add(*wrong))
    assert outcomes == [InvalidRequest, InvalidRequest]


@pytest.mark.parametrize("steps", range(6))
async def test_an_add_during_a_removal_ends_with_it_running(
    autojump_clock: MockClock, simulation: Simulation, steps: int
) -> None:
    """However the two interleave, a caller that started it finds it running."""
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
    """The exchange would acknowledge them and send nothing, so they are checked first."""
    registry = simulation.agent.registry
    for symbol, reason in [("NOSUCHUSDT", "does not exist"), ("OMGUSDT", "does not trade")]:
        with pytest.raises(InvalidRequest, match=reason):
            await registry.add(symbol, Interval.M1)
    with pytest.raises(InvalidRequest, match="usdm has no 1s klines"):
        await registry.add("BTCUSDT", Interval.S1)
    assert registry.count() == 9


async def test_unknown_symbols_take_no_place_under_the_limit(autojump_clock: MockClock) -> None:
    """They cannot keep out symbols that exist."""
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


async def test_removing_a_series_that_does_not_run_fails(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """And changes nothing."""
    with pytest.raises(NotRunning, match="SOLUSDT 15m does not run"):
        await simulation.agent.registry.remove(*SOL)


async def test_removing_during_an_outage_does_not_wait_for_the_exchange(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """A stream that is not carried needs no UNSUBSCRIBE, and does not return with the exchange."""
    registry = simulation.agent.registry
    with simulation.exchange.offline():
        await trio.sleep(60)
        with trio.fail_after(5):
            await simulation.agent.desired.remove("BTCUSDT", Interval.M1)
        await trio.sleep(60)
    await trio.sleep(3600)
    assert registry.count() == 8


async def test_an_add_that_waits_does_not_delay_the_stop(autojump_clock: MockClock) -> None:
    """It fails at once, and the agent ends."""
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
            # The outage lasts until the agent has ended.
            outage.pop_all()
            stopped_at = trio.current_time()
        assert trio.current_time() - stopped_at < 5
    assert outcomes == [ShuttingDown]


async def test_confirmed_streams_without_events_are_reported_and_healed(
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
    """A caller that was not answered can rely on its not running."""
    registry = simulation.agent.registry
    is_started = False
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def add() -> None:
                nonlocal is_started
                is_started = await registry.add(*SOL)

            nursery.start_soon(add)
            await trio.sleep(0.001)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert registry.count() == (10 if is_started else 9)


async def test_a_series_kept_twice_runs_once(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """The running one is left as it is."""
    registry = simulation.agent.registry
    before = registry.subscriptions()
    registry.keep("BTCUSDT", Interval.M1)
    assert registry.subscriptions() == before


async def test_dropped_series_end_without_the_exchange(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Their places are free at once."""
    registry = simulation.agent.registry
    with simulation.exchange.offline():
        began_at = trio.current_time()
        await registry.drop([("BTCUSDT", Interval.M1), SOL, ("NOSUCH", Interval.M1)])
        assert trio.current_time() == began_at
    assert registry.subscription("BTCUSDT", Interval.M1) is None
    assert registry.count() == 8


async def test_a_series_dropped_before_it_began_ends(
    autojump_clock: MockClock, simulation: Simulation
) -> None:
    """Whether its task has run or not: it waits for a symbol that does not trade."""
    registry = simulation.agent.registry
    halted = ("OMGUSDT", Interval.M1)
    for waits_s in (0, 60):
        registry.keep(*halted)
        await trio.sleep(waits_s)
        await registry.drop([halted])
        assert registry.count() == 9


def test_a_place_that_is_reserved_is_kept_from_other_venues_until_it_is_given_back() -> None:
    """Those that wait for a place learn of it."""
    freed = []
    places = Places(2)
    places.watch(lambda: freed.append(places.taken_by_others("usdm")))
    places.reserve("spot", 1)
    places.take("usdm", "BTCUSDT")
    with pytest.raises(SymbolLimitReached):
        places.take("usdm", "ETHUSDT")
    assert (places.taken_by_others("usdm"), places.taken_by_others("spot")) == (1, 1)
    places.end_reservation("spot")
    assert freed == [0]
    places.take("usdm", "ETHUSDT")
    with pytest.raises(SymbolLimitReached):
        places.take("spot", "BTCUSDT")


def test_a_place_that_was_reserved_and_is_taken_counts_once() -> None:
    """Nothing is free when the reservation ends."""
    freed: list[None] = []
    places = Places(2)
    places.watch(lambda: freed.append(None))
    places.reserve("spot", 1)
    places.take("spot", "BTCUSDT")
    assert places.taken_by_others("usdm") == 1
    places.end_reservation("spot")
    assert (places.taken_by_others("usdm"), freed) == (1, [])
