import trio
from trio.testing import MockClock

from klineagent.twin.clock import ExchangeClock


async def test_exchange_time_runs_at_its_own_speed(autojump_clock: MockClock) -> None:
    """At speed 600 one second is ten minutes of exchange time."""
    clock = ExchangeClock(start_ms=1_000_000, speed=600)
    assert clock.now_ms() == 1_000_000
    await trio.sleep(1)
    assert clock.now_ms() == 1_600_000


async def test_sleeping_ends_when_the_clock_shows_the_time(autojump_clock: MockClock) -> None:
    """The clock shows exactly that time; a past time does not wait."""
    clock = ExchangeClock(start_ms=1_769_904_000_000, speed=7)
    for later in (1, 299, 60_000, 86_400_123):
        await clock.sleep_until(1_769_904_000_000 + later)
        assert clock.now_ms() == 1_769_904_000_000 + later
    await clock.sleep_until(0)
    assert clock.now_ms() == 1_769_904_000_000 + 86_400_123
