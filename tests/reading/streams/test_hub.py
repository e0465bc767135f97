"""Streams of a whole agent, on a virtual clock: what is sent, when, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline
from klineagent.reading.streams.hub import FLUSH_EVERY_S
from klineagent.testing.simulation import open_simulation
from tests.reading.streams.listening import listening, streams_of
from tests.simulations.looking import MINUTE_S


@define
class Closings:
    """Notes when the closing event of each candle came in; a follower of the bus."""

    at: dict[int, float] = field(factory=dict)

    def follow(self, klines: Sequence[Kline], _frames: Sequence[bytes]) -> None:
        for kline in klines:
            if kline.is_closed:
                self.at.setdefault(kline.open_time, trio.current_time())


async def test_every_candle_closes_once_and_in_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Forming states come about once a second, the closing event as soon as it is there."""
    async with (
        open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1], tick_ms=250) as simulation,
        streams_of(simulation) as hub,
        listening(hub, "/market/ws/btcusdt@kline_1m", nursery) as client,
    ):
        closings, opens, forming = Closings(), [], 0
        with simulation.agent.bus.followed(closings), trio.move_on_after(10 * MINUTE_S):
            while True:
                event = await client.message()
                assert (event["e"], event["s"]) == ("kline", "BTCUSDT")
                open_ms = event["k"]["t"]
                if event["k"]["x"]:
                    opens.append(open_ms)
                    assert trio.current_time() - closings.at[open_ms] <= FLUSH_EVERY_S + 1e-6
                else:
                    forming += 1
                    assert not opens or open_ms == opens[-1] + MINUTE_MS
        assert len(opens) in {10, 11}
        assert opens == list(range(opens[0], opens[-1] + 1, MINUTE_MS))
        assert 500 < forming < 700
