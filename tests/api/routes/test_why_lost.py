"""A candle that healed says that it was lost."""

from __future__ import annotations

from datetime import datetime, timedelta

import trio
from trio.testing import MockClock

from klineagent.core.interval import Interval
from klineagent.testing.simulation import open_simulation
from tests.simulations.looking import MINUTE_S


async def test_why_tells_what_happened_to_a_candle(autojump_clock: MockClock) -> None:
    """How it was lost, when that was found, and when it came; of others nothing."""
    async with open_simulation(symbols=["BTCUSDT"], intervals=[Interval.M1]) as simulation:
        client = simulation.agent.command.test_client()
        await trio.sleep(MINUTE_S + 10)
        with simulation.exchange.offline():
            await trio.sleep(2 * MINUTE_S)
        await trio.sleep(MINUTE_S)
        for minute in (1, 2):
            opened = datetime.fromisoformat("2026-02-01T00:00:00+00:00") + timedelta(minutes=minute)
            query = f"symbol=BTCUSDT&interval=1m&open_time=2026-02-01T00:0{minute}:00Z"
            found = await (await client.get(f"/v1/why?{query}")).get_json()
            assert found["state"] in {"stored", "on_its_way"}
            lost = found["lost"]
            assert lost["how"] == "its closing event did not come in time"
            assert lost["found"] == (opened + timedelta(seconds=65)).isoformat()
            healed = datetime.fromisoformat(lost["healed"]) - opened
            assert timedelta(minutes=3 - minute) < healed < timedelta(minutes=4 - minute + 0.5)
        query = "symbol=BTCUSDT&interval=1m&open_time=2026-02-01T00:00:00Z"
        assert (await (await client.get(f"/v1/why?{query}")).get_json())["lost"] is None
