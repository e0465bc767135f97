"""An agent runs for a simulated day in a few seconds; run `python examples/simulated_day.py`.

The agent is the real one; the exchange is the twin, the database is in memory, the clock is
virtual. At noon the database is away for an hour. No candle is missing afterwards.
"""

from __future__ import annotations

import trio
from trio.testing import MockClock

from klineagent.storage.store import SeriesSummary
from klineagent.testing.simulation import open_simulation

HOUR_S = 3600


async def simulate_day() -> list[SeriesSummary]:
    """Run for 24 hours with an outage of the database at noon; return the stored series."""
    async with open_simulation() as simulation:
        await trio.sleep(12 * HOUR_S)
        with simulation.store.offline():
            await trio.sleep(HOUR_S)
        await trio.sleep(11 * HOUR_S)
    return await simulation.store.summary()


if __name__ == "__main__":
    for series in trio.run(simulate_day, clock=MockClock(autojump_threshold=0)):
        print(f"{series.symbol:8} {series.interval:3} {series.closed:5} closed candles")
