"""Venues that spend from one weight pool: what they share, and what is each venue's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.core.interval import MINUTE_MS, SECOND_MS
from klineagent.exchange.budget import (
    MOST_UNDER_WAY,
    SPARED_FOR_MS,
    WeightBudget,
    WeightPool,
    open_weight_pools,
)
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.turns import UNHURRIED
from klineagent.exchange.venues import COINM, SPOT, USDM

MIDNIGHT_MS = 1_769_904_000_000
LIMIT = 80
SPARED = 16


def _clock(ahead_ms: int = 0) -> ExchangeTime:
    """The clock of a venue, at the beginning of a minute and `ahead_ms` of it."""
    time = ExchangeTime()
    time.confirm(MIDNIGHT_MS + ahead_ms)
    return time


@asynccontextmanager
async def _open_two(ahead_ms: int = 0) -> AsyncIterator[tuple[WeightBudget, WeightBudget]]:
    """Two venues that may spend 80 in a minute; the second's clock is `ahead_ms`."""
    pool = WeightPool("futures", weight_per_minute=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.keep_time)
        yield pool.join(_clock()), pool.join(_clock(ahead_ms))
        nursery.cancel_scope.cancel()


async def _ask(budget: WeightBudget, weight: int = 1, urgency: int = 0) -> float:
    """Make a request that is answered at once; return for how long it waited."""
    asked_at = trio.current_time()
    async with budget.spend(weight, urgency):
        budget.report_used(0)
        return trio.current_time() - asked_at


# Whatever arrives


@frozen
class _Request:
    """Something that arrives at one of two venues, and what the exchange does with it."""

    after_s: float
    at: int
    weight: int
    urgency: int
    takes_s: float
    ends: Callable[[WeightBudget], None]


_ENDS: list[Callable[[WeightBudget], None]] = [
    lambda budget: budget.report_used(0),
    lambda budget: budget.report_used(0),
    lambda budget: budget.report_used(60),
    lambda budget: budget.back_off(3),
    lambda budget: budget.obey_limit(budget.minute_left_s()),
    lambda budget: budget.obey_ban(100),
    lambda budget: budget.end_backoff(),
]
_REQUESTS = st.builds(
    _Request,
    st.sampled_from([0, 0, 0, 0.1, 7.3, 40]),
    st.integers(0, 1),
    st.sampled_from([1, 2, 10, 20, 60]),
    st.integers(-1, UNHURRIED),
    st.sampled_from([0, 0.1, 0.1, 10, 70]),
    st.sampled_from(_ENDS),
)


@define
class _Watched:
    """Two venues under watch."""

    budgets: tuple[WeightBudget, WeightBudget]
    waiting: list[_Request] = field(factory=list, init=False)
    used: defaultdict[int, int] = field(factory=lambda: defaultdict(int), init=False)
    """The weight of requests under way in each minute: the exchange may count them to any."""

    async def make(self, request: _Request) -> None:
        """Make `request`, and wait until it is answered."""
        budget = self.budgets[request.at]
        self.waiting.append(request)
        async with budget.spend(request.weight, request.urgency):
            self.waiting.remove(request)
            sent_in = budget.pool.time.now_ms() // MINUTE_MS
            await trio.sleep(request.takes_s)
            request.ends(budget)
            for minute in range(sent_in, budget.pool.time.now_ms() // MINUTE_MS + 1):
                self.used[minute] += request.weight

    def check(self) -> None:
        """Check that all that was sent fits, and that what waits does not."""
        assert max(self.used.values(), default=0) <= LIMIT
        for request in self.waiting:
            budget = self.budgets[request.at]
            spending = budget.spending()
            room = 1 if budget.in_doubt else MOST_UNDER_WAY
            is_sparing = budget.pool.time.now_ms() % MINUTE_MS < SPARED_FOR_MS
            left = LIMIT - (SPARED if is_sparing and request.urgency == UNHURRIED else 0)
            assert (
                spending.backing_off_s
                or spending.under_way >= room
                or spending.used + request.weight > left
            )


@given(st.lists(_REQUESTS, max_size=40), st.integers(-30 * SECOND_MS, 30 * SECOND_MS))
def test_no_minute_holds_more_than_our_share_and_nothing_waits_that_fits(
    requests: list[_Request], ahead_ms: int
) -> None:
    """Whatever arrives at two venues, fails or is refused, and however far their clocks differ."""

    async def run() -> None:
        async with _open_two(ahead_ms) as budgets, trio.open_nursery() as nursery:
            watched = _Watched(budgets)
            for request in requests:
                await trio.sleep(request.after_s)
                nursery.start_soon(watched.make, request)
                await wait_all_tasks_blocked()
                watched.check()
            await trio.sleep(3 * 3600)
            watched.check()
            assert watched.waiting == []

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_history_goes_ahead_when_no_weight_is_spared_any_more(
    autojump_clock: MockClock,
) -> None:
    """At 55 s of the minute, though nothing else happens then."""
    async with _open_two() as (one, other):
        assert await _ask(one, LIMIT - SPARED) == 0
        assert await _ask(other, 1, UNHURRIED) == pytest.approx(55)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1), st.sampled_from([1, 2, 5, 10, 20, 41]), st.integers(-1, UNHURRIED)
        ),
        max_size=MOST_UNDER_WAY,
    )
)
def test_the_most_urgent_of_all_venues_goes_first(arrivals: list[tuple[int, int, int]]) -> None:
    """Equally urgent ones by arrival; one that does not fit is passed over, not waited for."""

    async def run() -> None:
        async with _open_two() as budgets, trio.open_nursery() as nursery:
            sent: list[int] = []

            async def ask(number: int, at: int, weight: int, urgency: int) -> None:
                async with budgets[at].spend(weight, urgency):
                    sent.append(number)
                    await trio.sleep_forever()

            await _ask(budgets[0], LIMIT)
            for number, arrival in enumerate(arrivals):
                nursery.start_soon(ask, number, *arrival)
                await wait_all_tasks_blocked()
            await trio.sleep(50)
            assert sent == []
            await trio.sleep(20)

            left, expected = LIMIT, []
            for number, (_, weight, urgency) in sorted(
                enumerate(arrivals), key=lambda each: (each[1][2], each[0])
            ):
                if weight <= left - (SPARED if urgency == UNHURRIED else 0):
                    left -= weight
                    expected.append(number)
            assert sorted(sent) == sorted(expected)
            nursery.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_a_turn_that_was_passed_over_is_the_first_of_the_next_minute(
    autojump_clock: MockClock,
) -> None:
    """So many small requests do not keep a large one from its turn."""
    async with _open_two() as (one, other), trio.open_nursery() as nursery:
        waits: dict[str, float] = {}

        async def ask(name: str, budget: WeightBudget, weight: int) -> None:
            waits[name] = await _ask(budget, weight)

        await _ask(one, 50)
        nursery.start_soon(ask, "large", one, 40)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, "small", other, 30)
        await wait_all_tasks_blocked()
        for number in range(6):
            nursery.start_soon(ask, f"more {number}", other, 10)
    assert waits["small"] == 0
    assert waits["large"] == pytest.approx(60)
    assert sorted(waits.values())[-3:] == pytest.approx([60, 120, 120])


# What is each venue's own


async def test_a_ban_of_one_venue_leaves_the_others_timely(autojump_clock: MockClock) -> None:
    """Its requests wait, most urgent or not, until the ban ends."""
    async with _open_two() as (banned, other), trio.open_nursery() as nursery:
        banned.obey_ban(600)
        waits: list[float] = []

        async def wait_for_the_end() -> None:
            waits.append(await _ask(banned, urgency=-1))

        nursery.start_soon(wait_for_the_end)
        for _ in range(300):
            await trio.sleep(1)
            assert await _ask(other, urgency=UNHURRIED) == 0
        assert (banned.spending().waiting, other.spending().waiting) == (1, 0)
        assert banned.spending().backing_off_s == pytest.approx(300)
        assert other.spending().backing_off_s == 0
    assert waits == pytest.approx([600])


async def test_a_venue_that_fails_takes_no_others_places(autojump_clock: MockClock) -> None:
    """Ten requests that are not answered, and a backoff after them, are its own."""
    async with _open_two() as (silent, other), trio.open_nursery() as nursery:

        async def fail() -> None:
            async with silent.spend(1, 0):
                await trio.sleep(10)
                silent.back_off(5)

        for _ in range(MOST_UNDER_WAY + 5):
            nursery.start_soon(fail)
        for _ in range(40):
            await trio.sleep(1)
            assert await _ask(other) == 0
        nursery.cancel_scope.cancel()


async def test_the_end_of_one_venues_backoff_is_not_waited_for_by_others(
    autojump_clock: MockClock,
) -> None:
    """Each goes ahead when it may: after its own backoff, or with the next minute."""
    async with _open_two() as (one, other), trio.open_nursery() as nursery:
        waits: dict[str, float] = {}

        async def ask(name: str, budget: WeightBudget, weight: int) -> None:
            waits[name] = await _ask(budget, weight)

        await _ask(one, 75)
        one.back_off(10)
        other.back_off(90)
        for name, budget, weight in [("soon", one, 5), ("full", one, 6), ("late", other, 1)]:
            nursery.start_soon(ask, name, budget, weight)
            await wait_all_tasks_blocked()
    assert waits == pytest.approx({"soon": 10, "full": 60, "late": 90})


# What they share


async def test_a_limit_holds_all_venues(autojump_clock: MockClock) -> None:
    """Neither sends a request until the limit ends; then one request of each goes ahead."""
    async with _open_two() as budgets, trio.open_nursery() as nursery:
        at: list[float] = []

        async def ask(budget: WeightBudget) -> None:
            async with budget.spend(1, 0):
                at.append(trio.current_time())
                await trio.sleep(1)
                budget.report_used(1)

        budgets[0].obey_limit(30)
        for _ in range(3):
            for budget in budgets:
                nursery.start_soon(ask, budget)
    assert at == pytest.approx([30, 30, 31, 31, 31, 31])


async def test_weight_that_one_venue_reports_counts_for_all(autojump_clock: MockClock) -> None:
    """The exchange counts them together."""
    async with _open_two() as (one, other):
        async with one.spend(1, 0):
            one.report_used(79)
        assert await _ask(other) == 0
        assert await _ask(other) == pytest.approx(60)


async def test_a_minute_is_that_of_the_clock_that_was_known_first(
    autojump_clock: MockClock,
) -> None:
    """Another that is known later, and shows the minute before, does not turn it twice."""
    pool = WeightPool("futures", weight_per_minute=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.keep_time)
        late, early = pool.join(ExchangeTime()), pool.join(ExchangeTime())
        assert pool.time is late.time
        early.time.confirm(MIDNIGHT_MS)
        assert await _ask(early, LIMIT) == 0
        late.time.confirm(MIDNIGHT_MS - 100)
        assert pool.time is early.time
        assert await _ask(late) == pytest.approx(60)
        assert await _ask(early, LIMIT - 1) == 0
        # Without the first, the minute of the other ends a moment later, once.
        pool.leave(early)
        assert pool.time is late.time
        assert await _ask(late) == pytest.approx(60.1)
        nursery.cancel_scope.cancel()


async def test_a_clock_that_steps_back_by_a_moment_turns_no_minute_twice(
    autojump_clock: MockClock,
) -> None:
    """What was spent since the minute began counts until it ends."""
    async with _open_two() as (one, _):
        await trio.sleep(60.05)
        assert await _ask(one, LIMIT) == 0
        one.time.confirm(MIDNIGHT_MS + MINUTE_MS - 50)
        assert await _ask(one) == pytest.approx(60.05)


async def test_venues_join_and_leave_while_others_spend(autojump_clock: MockClock) -> None:
    """Both futures venues share a pool, spot has its own; a venue that left has spent."""
    async with open_weight_pools() as pools:
        with pools.budget(USDM, _clock()) as usdm:
            assert await _ask(usdm, 1_900) == 0
            with pools.budget(SPOT, _clock()) as spot:
                assert spot.limit == 4_800
                assert await _ask(spot, 4_800) == 0
            with pools.budget(COINM, _clock()) as coinm:
                assert coinm.pool is usdm.pool
                assert await _ask(coinm, 20) == 0
            assert usdm.spending().used == usdm.limit == 1_920
        with pools.budget(COINM, _clock()) as coinm:
            assert await _ask(coinm, 1_900) == pytest.approx(60)
