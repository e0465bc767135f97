"""Urgent gaps are not delayed by others, though both share one budget and one series."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from klineagent.core.interval import HOUR_MS, MINUTE_MS, Interval
from klineagent.exchange.venues import SPOT
from klineagent.series.marks import Absence, Absent, Missing, Urgency
from klineagent.series.subscription import Subscription
from klineagent.testing.simulation import FEBRUARY_2026_MS, Simulation, open_simulation
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.random import RandomMarket
from tests.simulations.looking import MINUTE_S

SERIES = 60
ABSENCES = 6
STEP_S = 0.1
SOON_S = 1.0


@asynccontextmanager
async def _busy_market() -> AsyncIterator[Simulation]:
    """Twenty minutes of a market whose series together may spend little in a minute."""
    market = RandomMarket(
        symbols=SERIES, seed=1, start_ms=FEBRUARY_2026_MS - 10 * HOUR_MS, venue_name="usdm"
    )
    async with open_simulation(
        symbols=[listing.symbol for listing in market.listings][:SERIES],
        intervals=[Interval.M1],
        market=market,
        history=0,
        tick_ms=MINUTE_MS // 2,
    ) as simulation:
        await trio.sleep(20 * MINUTE_S)
        simulation.agent.registry.context.rest.budget.pool.weight_per_minute = 100
        yield simulation


def _opens(subscription: Subscription) -> list[int]:
    """Every other candle, from the first on."""
    first_ms = subscription.ledger.first_ms
    return [first_ms + (2 * at + 1) * MINUTE_MS for at in range(ABSENCES)]


def _let_all_look_again(simulation: Simulation) -> None:
    """In each series some absences are due."""
    due = Absence(Absent.NO_CANDLE, simulation.agent.registry.context.time.now_ms())
    for subscription in simulation.agent.registry.subscriptions():
        for open_ms in _opens(subscription):
            subscription.ledger.absences.mark(open_ms, open_ms + MINUTE_MS, due)
        subscription._backfill.wake()


def _let_all_fetch_history(simulation: Simulation) -> None:
    """In each series a few days are missing from before it was subscribed."""
    for subscription in simulation.agent.registry.subscriptions():
        first_ms = subscription.ledger.first_ms
        missing = Missing(Urgency.HISTORY)
        subscription.ledger.expect(first_ms - 9 * HOUR_MS, first_ms, missing)
        subscription._backfill.wake()


def _lose_newest(subscription: Subscription) -> int:
    """The row of the newest closed candle was lost before it was stored."""
    open_ms = subscription.ledger.horizon_ms - MINUTE_MS
    subscription.ledger.reopen(open_ms, now_ms=0)
    subscription._backfill.wake()
    return open_ms


async def _healed_after_s(subscription: Subscription, open_ms: int) -> float:
    began_at = trio.current_time()
    while open_ms in subscription.ledger.gaps:  # noqa: ASYNC110 - there is no event
        await trio.sleep(STEP_S)
    return trio.current_time() - began_at


async def test_a_fresh_gap_does_not_wait_for_absences_that_are_looked_at_again(
    autojump_clock: MockClock,
) -> None:
    """Nor behind a request of its own series that waits for its turn."""
    async with _busy_market() as simulation:
        _let_all_look_again(simulation)
        await trio.sleep(SOON_S)
        budget = simulation.agent.registry.context.rest.budget
        assert budget.spending().waiting > SERIES / 2
        for subscription in simulation.agent.registry.subscriptions()[-5:]:
            open_ms = _lose_newest(subscription)
            assert await _healed_after_s(subscription, open_ms) <= SOON_S
        await trio.sleep(10 * MINUTE_S)  # what was called back is asked all the same
        marks = [
            each.mark
            for subscription in simulation.agent.registry.subscriptions()
            for each in subscription.ledger.absences
        ]
        assert marks == []  # the exchange had them all
        assert simulation.agent.registry.missing() == 0


async def test_a_fresh_gap_does_not_wait_for_history(autojump_clock: MockClock) -> None:
    """A backfill of history takes minutes; a row that is lost meanwhile is back in none."""
    async with _busy_market() as simulation:
        _let_all_fetch_history(simulation)
        await trio.sleep(SOON_S)
        assert simulation.agent.registry.context.rest.budget.spending().waiting > SERIES / 2
        for subscription in simulation.agent.registry.subscriptions()[-5:]:
            open_ms = _lose_newest(subscription)
            assert await _healed_after_s(subscription, open_ms) <= SOON_S
        await trio.sleep(10 * MINUTE_S)
        assert simulation.agent.registry.missing() == 0


async def test_a_fresh_gap_after_its_retry_delay_withdraws_less_urgent_requests(
    autojump_clock: MockClock,
) -> None:
    """The first answers did not show the candle; the series waits for another request since."""
    async with _busy_market() as simulation:
        subscription = simulation.agent.registry.subscriptions()[-1]
        with simulation.exchange.lies.empty_klines():
            open_ms = _lose_newest(subscription)
            await trio.sleep(2.5)
        _let_all_look_again(simulation)
        assert await _healed_after_s(subscription, open_ms) <= 5


async def test_a_market_does_not_look_again_all_at_once(autojump_clock: MockClock) -> None:
    """The absences of a common halt are looked at again over an hour."""
    market = EventfulMarket(
        RandomMarket(symbols=SERIES, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="spot")
    )
    symbols = [listing.symbol for listing in market.listings][:SERIES]
    async with open_simulation(
        venue=SPOT,
        market=market,
        symbols=symbols,
        intervals=[Interval.M1],
        history=0,
        tick_ms=MINUTE_MS // 2,
    ) as simulation:
        await trio.sleep(5 * MINUTE_S)
        with market.halting(symbols):
            await trio.sleep(10 * MINUTE_S)
        await trio.sleep(10 * MINUTE_S)
        absences = [
            list(each.ledger.absences) for each in simulation.agent.registry.subscriptions()
        ]
        assert [len(each) for each in absences] == [1] * SERIES  # neighbours are one
        due = [each.mark.look_again_ms or 0 for [each] in absences]
    most_at_once = max(sum(at <= other < at + MINUTE_MS for other in due) for at in due)
    assert most_at_once <= SERIES / 10
