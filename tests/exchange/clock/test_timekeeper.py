"""When the exchange is asked for its time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.errors import BadFrame, ExchangeUnreachable
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.clock.timekeeper import Timekeeper

NOON_MS = 1_769_947_200_000
DAY_MS = 86_400_000
WAY_S = 0.01

Lie = Callable[[int], int]
"""Maps the number of a request to the milliseconds by which the answer is wrong."""


def _truth() -> int:
    return NOON_MS + round(trio.current_time() * 1000)


@define(eq=False)
class Exchange:
    """An exchange that answers a request for the time after a hundredth of a second."""

    lie: Lie = lambda _: 0
    asked_at: list[float] = field(factory=list, init=False)
    _numbers: Iterator[int] = field(factory=count, init=False)

    async def tell(self) -> tuple[int, float]:
        """See `RestClient.server_time`."""
        sent_at = trio.current_time()
        self.asked_at.append(sent_at)
        await trio.sleep(WAY_S)
        return _truth() + self.lie(next(self._numbers)), sent_at


@asynccontextmanager
async def _kept(
    exchange: Exchange, *, known: bool = True, is_simulated: bool = False
) -> AsyncIterator[ExchangeTime]:
    time = ExchangeTime(is_simulated)
    if known:
        time.confirm(_truth())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Timekeeper(time, exchange.tell).keep)
        yield time
        nursery.cancel_scope.cancel()


async def test_the_time_is_known_as_soon_as_two_answers_agree(autojump_clock: MockClock) -> None:
    """The second request follows the first answer."""
    exchange = Exchange()
    async with _kept(exchange, known=False) as time:
        await time.known()
        assert trio.current_time() == pytest.approx(2 * WAY_S)
        assert time.now_ms() == _truth()
        await trio.sleep(60)
    assert len(exchange.asked_at) == 2


async def test_a_wrong_first_answer_costs_a_moment(autojump_clock: MockClock) -> None:
    """A third request settles it."""
    exchange = Exchange(lambda number: DAY_MS if number == 0 else 0)
    async with _kept(exchange, known=False) as time:
        await time.known()
        assert trio.current_time() == pytest.approx(0.1 + 3 * WAY_S)
        assert time.now_ms() == _truth()


async def test_an_exchange_that_contradicts_itself_is_asked_twice_a_second(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers that never agree make no clock, and are logged once a minute."""
    dice = random.Random(1)
    exchange = Exchange(lambda _: dice.randrange(-100, 100) * 3_600_000)
    async with _kept(exchange, known=False) as time:
        await trio.sleep(30)
        assert not time.is_known
        assert 56 <= len(exchange.asked_at) <= 70
        exchange.lie = lambda _: 0
        await trio.sleep(3)
        assert time.now_ms() == pytest.approx(_truth(), abs=20)
    assert [record.msg for record in caplog.records] == ["clock_in_doubt", "clock_settled"]


async def test_a_wrong_event_causes_one_request_and_a_thousand_hardly_more(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One request a second; the events are counted, and logged in one line."""
    exchange = Exchange()
    async with _kept(exchange) as time:
        await trio.sleep(10)
        time.advance(_truth() + DAY_MS)
        await trio.sleep(0.001)
        assert exchange.asked_at == pytest.approx([10])
        for _ in range(1000):
            time.advance(_truth() + DAY_MS)
            await trio.sleep(0.01)
        assert len(exchange.asked_at) <= 12
        assert time.now_ms() == pytest.approx(_truth(), abs=20)
        assert time.reckoning.rejected == 1001
    [line] = caplog.records
    assert (line.msg, vars(line)["newest"]) == ("event_time_refuted", "86400.0 s ahead")


async def test_after_a_suspension_the_time_is_known_with_the_next_event(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Or without events after the silence that causes a request."""
    exchange = Exchange()
    gone_ms = DAY_MS // 3
    async with _kept(exchange) as time:
        await trio.sleep(10)
        exchange.lie = lambda _: gone_ms
        time.advance(_truth() + gone_ms)
        await trio.sleep(2 * WAY_S)
        assert time.now_ms() == pytest.approx(_truth() + gone_ms, abs=20)
        exchange.lie = lambda _: 2 * gone_ms
        await trio.sleep(90 + 2 * WAY_S)
        assert time.now_ms() == pytest.approx(_truth() + 2 * gone_ms, abs=20)
    assert [(each.msg, vars(each)["newest"]) for each in caplog.records][:1] == [
        ("clock_set", "by 28800.0 s")
    ]


async def test_an_exchange_that_runs_fast_is_followed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A simulated exchange, sixty times as fast, with an event every hundredth of a second."""
    exchange = Exchange()

    def gained_ms(_: int = 0) -> int:
        return round(trio.current_time() * 59_000)

    exchange.lie = gained_ms
    async with _kept(exchange, known=False) as time:
        for _ in range(100 * 60):
            time.advance(_truth() + gained_ms())
            await trio.sleep(0.01)
            if trio.current_time() > 1:
                assert abs(time.now_ms() - _truth() - gained_ms()) < 3_000
    assert len(exchange.asked_at) < 100
    assert len(caplog.records) <= 1


@pytest.mark.parametrize("speed", [1, 60, 1200])
async def test_an_exchange_on_this_machine_is_known_with_its_pace(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, speed: int
) -> None:
    """Soon, and then every event is believed at whatever speed, and none is logged."""
    exchange = Exchange()

    def gained_ms(_: int = 0) -> int:
        return round(trio.current_time() * (speed - 1) * 1000)

    exchange.lie = gained_ms
    async with _kept(exchange, known=False, is_simulated=True) as time:
        with trio.fail_after(0.5):
            await time.known()
        for _ in range(10 * 60):
            assert time.allows(_truth() + gained_ms())
            time.advance(_truth() + gained_ms())
            await trio.sleep(0.1)
    assert len(exchange.asked_at) < 40
    assert caplog.records == []


async def test_an_exchange_on_this_machine_without_a_pace_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The wait for a pace is bounded."""
    dice = random.Random(1)
    exchange = Exchange(lambda _: dice.randrange(-100, 100) * 3_600_000)
    async with _kept(exchange, known=False, is_simulated=True) as time:
        await trio.sleep(30)
        assert not time.is_known
        exchange.lie = lambda _: 0
        await trio.sleep(5)
        assert time.now_ms() == pytest.approx(_truth(), abs=20)
    assert [record.msg for record in caplog.records] == ["clock_in_doubt", "clock_settled"]


@pytest.mark.parametrize("error", [ExchangeUnreachable("no answer"), BadFrame("in microseconds")])
async def test_an_exchange_that_does_not_answer_is_asked_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Once a second; another task logs that it does not answer."""
    time, asked_at = ExchangeTime(), []

    async def fail() -> tuple[int, float]:
        asked_at.append(trio.current_time())
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Timekeeper(time, fail).keep)
        await trio.sleep(9.5)
        nursery.cancel_scope.cancel()
    assert asked_at == pytest.approx(range(10))
    logged = [record.msg for record in caplog.records]
    assert logged == (["clock_in_doubt"] if isinstance(error, BadFrame) else [])
