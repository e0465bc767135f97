"""Breaches: limits that clients break are counted."""

from __future__ import annotations

import httpx2
import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from klineagent.core.errors import ExchangeUnreachable
from klineagent.twin.exchange import Exchange
from klineagent.twin.network import TwinNetwork
from tests.twin.samples import Dial


async def test_too_many_dials_are_a_breach(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """More than 300 attempts in five minutes, including those in an outage; older ones expire."""
    for _ in range(150):
        await (await dial("/market/ws")).aclose()
    with twin.offline():
        for _ in range(150):
            with pytest.raises(ExchangeUnreachable):
                await dial("/market/ws")
        assert not twin.breaches
        with pytest.raises(ExchangeUnreachable):
            await dial("/market/ws")
    assert twin.breaches == {"connection_attempts": 1}
    await trio.sleep(301)
    await dial("/market/ws")
    assert twin.breaches == {"connection_attempts": 1}


async def test_refused_requests_are_breaches(
    twin: Exchange, network: TwinNetwork, autojump_clock: MockClock
) -> None:
    """Refusals by the weight meter count, with both statuses, for any request."""
    klines = {"symbol": "BTCUSDT", "interval": "1m", "limit": "1501"}
    async with httpx2.AsyncClient(transport=network.http_transport()) as client:
        for _ in range(248):
            await client.get("https://x/fapi/v1/klines", params=klines)
    assert twin.breaches == {"rest_429": 5, "rest_418": 3}


async def test_closed_connections_are_breaches(
    twin: Exchange, dial: Dial, autojump_clock: MockClock
) -> None:
    """Too many requests in a second, too many streams; each counts once."""
    busy = await dial("/market/ws")
    for _ in range(16):
        await busy.send_message('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    for _ in range(15):
        await busy.get_message()
    with pytest.raises(trio_websocket.ConnectionClosed):
        await busy.get_message()
    assert twin.breaches == {"requests_per_second": 1}
    await dial("/market/ws/" + "/".join(f"stream{number}" for number in range(1_025)))
    await trio.sleep(1)
    assert twin.breaches == {"requests_per_second": 1, "streams_per_connection": 1}
