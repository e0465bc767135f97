"""What a subscription makes of the klines of its stream."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from klineagent.kline import Interval
from klineagent.simulation import open_simulation


async def test_late_states_do_not_replace_the_newest_one(autojump_clock: MockClock) -> None:
    """Be they of an older candle, or of one that has closed already."""
    async with open_simulation(
        symbols=["BTCUSDT"], intervals=[Interval.M1], history=0
    ) as simulation:
        await trio.sleep(90)
        subscription = simulation.agent.registry.subscription("BTCUSDT", Interval.M1)
        assert subscription is not None
        seen = []
        with simulation.exchange.lies.late_forming():
            for _ in range(600):
                await trio.sleep(0.5)
                assert subscription.newest is not None
                seen.append((subscription.newest.open_time, subscription.newest.is_closed))
        assert simulation.exchange.faults.injected["late_forming"] == 5
        assert seen == sorted(seen)
        assert {is_closed for _, is_closed in seen} == {False, True}
