from __future__ import annotations

import trio

from klineagent.api.routes.symbols import add_symbols
from klineagent.api.subscriptions import Subscriptions
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM


async def test_a_caller_that_hangs_up_leaves_no_half_symbol(subscriptions: Subscriptions) -> None:
    """Cancelled while one interval is missing, the call takes back the others."""
    subscriptions.silent.add(("ETHUSDT", Interval.H1))  # type: ignore[attr-defined]  # the twin's
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            add_symbols,
            subscriptions,
            ["BTCUSDT", "ETHUSDT"],
            (Interval.M1, Interval.H1),
            USDM,
        )
        await trio.testing.wait_all_tasks_blocked()
        assert subscriptions.count() == 3
        nursery.cancel_scope.cancel()
    assert subscriptions.symbols() == ["BTCUSDT"]
