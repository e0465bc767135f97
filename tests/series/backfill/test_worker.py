"""The backfill of one series, beside what simulations show of it."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, NoReturn

import trio
from attrs import define, field

from klineagent.core.errors import ExchangeRefused
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.exchange.venues import USDM
from klineagent.series.backfill.worker import REFUSED_DELAY_S, Backfill
from klineagent.series.context import BackfillCounts
from klineagent.series.ledger import Ledger
from klineagent.series.marks import Missing, Urgency
from klineagent.testing.simulation import FEBRUARY_2026_MS


@define
class TickingClock(trio.abc.Clock):
    """Moves with each look at it, as the real one; while all tasks wait, to the next deadline."""

    tick_s: float
    now: float = field(default=0.0, init=False)

    def start_clock(self) -> None:
        """Nothing to start."""

    def current_time(self) -> float:
        """Look at the clock."""
        self.now += self.tick_s
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump there."""
        if deadline < math.inf:
            self.now = max(self.now, deadline)
        return 0


def test_a_retry_delay_that_ends_between_two_looks_at_the_clock_is_seen() -> None:
    """Otherwise the gap would wait until something else wakes the task, if anything does."""

    async def run() -> None:
        asked, again = 0, trio.Event()

        async def refuse(*_: object) -> NoReturn:
            nonlocal asked
            asked += 1
            if asked == 2:
                again.set()
            raise ExchangeRefused("400")

        async def room() -> None:
            """There always is."""

        ledger = Ledger(Interval.M1, 5000)
        ledger.begin(FEBRUARY_2026_MS)
        ledger.expect(FEBRUARY_2026_MS - MINUTE_MS, FEBRUARY_2026_MS, Missing(Urgency.RESTART))
        context: Any = SimpleNamespace(
            room=room,
            counts=BackfillCounts(),
            rest=SimpleNamespace(venue=USDM, candles=refuse),
            time=SimpleNamespace(now_ms=lambda: FEBRUARY_2026_MS),
        )
        backfill = Backfill(symbol="BTCUSDT", stream_name="", ledger=ledger, context=context)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backfill.run)
            with trio.fail_after(20 * REFUSED_DELAY_S):
                await again.wait()
            nursery.cancel_scope.cancel()

    # The first look after the refusal is within the delay, the second after it.
    trio.run(run, clock=TickingClock(REFUSED_DELAY_S * 2 / 3))
