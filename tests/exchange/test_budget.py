"""Retry delays, and the weight budget of one venue."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from klineagent.core.errors import NotSent
from klineagent.core.interval import MINUTE_MS
from klineagent.core.retry import HEALTHY_AFTER_S, Backoff
from klineagent.exchange.budget import MOST_FORWARDED, MOST_UNDER_WAY, WeightBudget, WeightPool
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.turns import FORWARDED, UNHURRIED


def test_retry_delays_grow_to_their_ceiling_and_no_further() -> None:
    """Each delay lies under a ceiling that doubles; a thousand failures break nothing."""
    random.seed(1)
    backoff = Backoff(first_s=1, most_s=8)
    waits = [backoff.after() for _ in range(2000)]
    assert all(wait <= ceiling for wait, ceiling in zip(waits, [1, 2, 4, 8], strict=False))
    assert 4 < max(waits) <= 8


def test_only_health_resets_the_retry_delays() -> None:
    """A server that accepts and drops connections at once gets longer and longer delays."""
    random.seed(1)
    flapping = Backoff(first_s=1, most_s=64)
    for _ in range(20):
        flapping.after(HEALTHY_AFTER_S - 1)
    assert max(flapping.after(HEALTHY_AFTER_S - 1) for _ in range(50)) > 32
    assert flapping.after(HEALTHY_AFTER_S) <= 1


MIDNIGHT_MS = 1_769_904_000_000


@asynccontextmanager
async def _open_budget(weight_per_minute: int = 100) -> AsyncIterator[WeightBudget]:
    """A budget at the beginning of a minute of the exchange."""
    time = ExchangeTime()
    time.confirm(MIDNIGHT_MS)
    pool = WeightPool("futures", weight_per_minute)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.keep_time)
        yield pool.join(time)
        nursery.cancel_scope.cancel()


async def test_a_minute_holds_our_share_of_the_weight_and_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Further requests wait for the exchange's next minute, not for a minute by our clock."""
    async with _open_budget() as budget:
        times = []
        for _ in range(25):
            async with budget.spend(10, 0):
                await trio.sleep(0.1)
                times.append(int(budget.time.now_ms() - MIDNIGHT_MS) // MINUTE_MS)
    assert times == [0] * 8 + [1] * 8 + [2] * 8 + [3]


async def test_spending_shows_how_far_the_minute_is_spent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Of the present minute, whenever it is read; with waiting requests and the backoff."""

    async def ask(budget: WeightBudget) -> None:
        async with budget.spend(50, 0):
            await trio.sleep(1)

    async with _open_budget() as budget, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask, budget)
            await trio.testing.wait_all_tasks_blocked()
        budget.back_off(5)
        spending = budget.spending()
        assert (spending.used, spending.limit, spending.per_minute) == (50, 80, 100)
        assert (spending.under_way, spending.waiting) == (1, 1)
        assert spending.backing_off_s == 5
        await trio.sleep(150)
        assert budget.spending().used == 0
        assert budget.spending().backing_off_s == 0


async def test_the_most_urgent_goes_first(autojump_clock: trio.testing.MockClock) -> None:
    """Regardless of the order of arrival; equally urgent ones in that order."""
    order: list[str] = []

    async def ask(budget: WeightBudget, name: str, urgency: int) -> None:
        async with budget.spend(1, urgency):
            order.append(name)

    async with _open_budget() as budget, trio.open_nursery() as nursery:
        budget.back_off(5)
        for name, urgency in [("history", 3), ("missed", 1), ("fresh", 0), ("missed later", 1)]:
            nursery.start_soon(ask, budget, name, urgency)
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["fresh", "missed", "missed later", "history"]


async def test_history_leaves_weight_to_urgent_requests_and_takes_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Weight that is unused near the end of a minute is spent on history after all."""
    minutes: list[int] = []
    waits: list[float] = []

    async def ask_for_history(budget: WeightBudget) -> None:
        async with budget.spend(1, UNHURRIED):
            await trio.sleep(0.1)
            minutes.append(int(budget.time.now_ms() - MIDNIGHT_MS) // MINUTE_MS)

    async with _open_budget() as budget, trio.open_nursery() as nursery:
        for _ in range(240):
            nursery.start_soon(ask_for_history, budget)
        for _ in range(20):
            await trio.sleep(7)
            asked_at = trio.current_time()
            async with budget.spend(1, UNHURRIED - 1):
                waits.append(trio.current_time() - asked_at)
    assert max(minutes) == 3  # 260 requests of 80 a minute
    assert max(waits) <= 5
    assert sum(waits) / len(waits) <= 1


async def test_a_request_can_be_withdrawn_until_it_is_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Then it has cost nothing; later it is answered, even if no one waits for it."""
    async with _open_budget() as budget:
        waiting = trio.CancelScope()
        async with budget.spend(1, 0, waiting):
            waiting.cancel()
            await trio.sleep(1)
        budget.back_off(10)
        waiting = trio.CancelScope(deadline=trio.current_time() + 3)
        with pytest.raises(NotSent):
            async with budget.spend(80, 0, waiting):
                raise AssertionError("it was not to go ahead")
        assert trio.current_time() == pytest.approx(4)
        assert (budget.pool.used, budget.spending().waiting) == (1, 0)


async def test_weight_that_others_have_used_counts(autojump_clock: trio.testing.MockClock) -> None:
    """The exchange's own count includes others at our address, and makes us wait."""
    async with _open_budget() as budget:
        async with budget.spend(1, 0):
            budget.report_used(85)
        started = trio.current_time()
        async with budget.spend(1, 0):
            assert trio.current_time() - started == pytest.approx(60)


async def test_a_reported_count_below_ours_is_ignored(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Our own count applies as well."""
    async with _open_budget() as budget:
        for _ in range(8):
            async with budget.spend(10, 0):
                budget.report_used(0)
        assert budget.pool.used == 80


async def test_after_a_failure_one_request_goes_ahead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The others follow once it was answered."""
    under_way = most = 0

    async def ask(budget: WeightBudget, *, answered: bool) -> None:
        nonlocal under_way, most
        async with budget.spend(1, 0):
            under_way += 1
            most = max(most, under_way)
            await trio.sleep(1)
            under_way -= 1
            if answered:
                budget.report_used(0)

    async with _open_budget() as budget:
        budget.back_off(10)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(lambda: ask(budget, answered=False))
        assert most == 1
        async with trio.open_nursery() as nursery:
            for _ in range(3 * MOST_UNDER_WAY):
                nursery.start_soon(lambda: ask(budget, answered=True))
        assert most == MOST_UNDER_WAY


async def test_a_request_goes_ahead_as_soon_as_it_may(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A backoff that begins while others wait is waited for, not the end of the minute."""
    went_at: dict[str, float] = {}

    async def ask(budget: WeightBudget, name: str, *, fails: bool) -> None:
        async with budget.spend(1, 0):
            went_at[name] = trio.current_time()
            await trio.sleep(0.1)
            if fails:
                budget.back_off(0.3)
            else:
                budget.report_used(1)

    async with _open_budget() as budget, trio.open_nursery() as nursery:
        budget.back_off(0.3)
        nursery.start_soon(lambda: ask(budget, "fails", fails=True))
        await trio.sleep(0.1)
        nursery.start_soon(lambda: ask(budget, "follows", fails=False))
    assert went_at == pytest.approx({"fails": 0.3, "follows": 0.3 + 0.1 + 0.3})


async def test_the_end_of_a_minute_during_a_backoff_is_noticed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A minute that was full when the backoff began ends when it ends."""
    async with _open_budget() as budget:
        async with budget.spend(80, 0):
            budget.report_used(80)
        budget.back_off(30)
        async with budget.spend(1, 0):
            assert trio.current_time() == pytest.approx(60)
        budget.back_off(90)
        async with budget.spend(1, 0):
            assert trio.current_time() == pytest.approx(150)


async def test_an_exchange_that_is_back_gets_a_request_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One request; limits and bans end only when they end."""
    async with _open_budget() as budget:
        budget.back_off(10)
        await trio.sleep(1)
        budget.end_backoff()
        async with budget.spend(1, 0):
            assert trio.current_time() == pytest.approx(1)
            assert budget.spending().under_way == 1
        budget.obey_limit(10)
        budget.back_off(5)
        budget.end_backoff()
        async with budget.spend(1, 0):
            assert trio.current_time() == pytest.approx(11)


async def test_a_clock_that_is_set_back_does_not_stop_the_minutes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Used weight stays used until the present minute ends."""
    async with _open_budget() as budget:
        budget.time.confirm(MIDNIGHT_MS + 1_000 * MINUTE_MS)
        async with budget.spend(80, 0):
            budget.report_used(80)

        async def set_back() -> None:
            await trio.sleep(10)
            budget.time.confirm(MIDNIGHT_MS + MINUTE_MS // 2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_back)
            async with budget.spend(1, 0):
                assert trio.current_time() == pytest.approx(10 + 30)


async def test_a_cancelled_wait_leaves_no_trace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Neither its place nor its weight is taken."""
    async with _open_budget() as budget:
        budget.back_off(5)
        with trio.move_on_after(1):
            async with budget.spend(50, 0):
                raise AssertionError("no request may go ahead")
        async with budget.spend(80, 0):
            assert budget.pool.used == 80


async def test_minutes_pass_before_the_time_is_known(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A full first minute does not prevent the request for the time."""
    pool = WeightPool("futures", weight_per_minute=100)
    budget = pool.join(ExchangeTime())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.keep_time)
        async with budget.spend(1, 0):
            budget.report_used(1000)
        with trio.fail_after(61):
            async with budget.spend(1, 0):
                pass
        nursery.cancel_scope.cancel()


async def test_a_whole_market_may_be_cancelled_at_once() -> None:
    """A stop, or the removal of a set, must not hold up other tasks for a minute."""
    budget = WeightPool("futures", weight_per_minute=100).join(ExchangeTime())
    budget.back_off(3600)

    async def ask(urgency: int) -> None:
        async with budget.spend(1, urgency):
            raise AssertionError("no request may go ahead")

    async with trio.open_nursery() as nursery:
        for number in range(3000):
            nursery.start_soon(ask, number % 4)
        await trio.testing.wait_all_tasks_blocked()
        assert budget.spending().waiting == 3000
        began_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert budget.spending().waiting == 0
    # It takes a tenth of a second; a search for each of them took eight.
    assert trio.current_time() - began_at < 2


async def test_forwarded_requests_never_delay_the_agents_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However many there are, and however late the exchange answers them."""
    granted: list[str] = []

    async def ask(budget: WeightBudget, name: str, urgency: int, lasts_s: float) -> None:
        async with budget.spend(1, urgency):
            granted.append(name)
            await trio.sleep(lasts_s)

    async with _open_budget(1_000) as budget, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, budget, "forwarded", FORWARDED, 10)
        await trio.sleep(0.1)
        assert granted == ["forwarded"] * MOST_FORWARDED
        for _ in range(MOST_UNDER_WAY):
            nursery.start_soon(ask, budget, "history", UNHURRIED, 20)
        await trio.sleep(0.1)
        assert granted[MOST_FORWARDED:] == ["history"] * MOST_UNDER_WAY
        budget.back_off(1)
        await trio.sleep(15)
        assert granted.count("forwarded") == MOST_FORWARDED
        nursery.cancel_scope.cancel()


async def test_forwarded_requests_spend_their_share_of_a_minute_and_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A fifth of ours; what is spent by others, too, leaves them less."""
    times = []

    async def ask(budget: WeightBudget) -> None:
        async with budget.spend(10, FORWARDED):
            times.append(int(budget.time.now_ms() - MIDNIGHT_MS) // MINUTE_MS)

    async with _open_budget(500) as budget, trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(ask, budget)
        await trio.sleep(70)
        assert times == [0] * 8 + [1] * 4
        budget.report_used(395)
        nursery.start_soon(ask, budget)
        await trio.sleep(45)
        assert len(times) == 12
        await trio.sleep(10)
        assert times[12:] == [2]
