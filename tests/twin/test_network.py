from __future__ import annotations

import json

import httpx2
import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from klineagent.core.errors import ExchangeUnreachable
from klineagent.exchange.network import Network
from klineagent.twin.exchange import Exchange
from klineagent.twin.exchanges import open_exchanges
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.network import TwinNetwork
from tests.twin.samples import START_MS, Dial


async def test_rest_needs_no_socket(network: TwinNetwork, autojump_clock: MockClock) -> None:
    """The transport answers with the exchange's own time and headers."""
    as_agent_sees_it: Network = network
    async with httpx2.AsyncClient(transport=as_agent_sees_it.http_transport()) as client:
        await trio.sleep(10)
        response = await client.get("https://fapi.binance.com/fapi/v1/time")
        assert response.json() == {"serverTime": START_MS + 10_000}
        assert response.headers["x-mbx-used-weight-1m"] == "1"
        query = {"symbol": "币安人生USDT", "interval": "1m", "limit": "1"}
        rows = (await client.get("https://x/fapi/v1/klines", params=query)).json()
        assert rows[0][0] == START_MS


async def test_an_outage_breaks_connections_and_refuses_new_ones(
    twin: Exchange, network: TwinNetwork, dial: Dial, autojump_clock: MockClock
) -> None:
    """There is no close frame, no connection during it, and everything works afterwards."""
    socket = await dial("/market/stream?streams=btcusdt@kline_1m")
    async with httpx2.AsyncClient(transport=network.http_transport()) as client:
        with twin.offline():
            with pytest.raises(trio_websocket.ConnectionClosed):
                await socket.get_message()
            assert socket.closed is not None
            assert socket.closed.code == 1006
            with pytest.raises(ExchangeUnreachable):
                await dial("/market/stream")
            with pytest.raises(httpx2.ConnectError):
                await client.get("https://x/fapi/v1/ping")
        assert (await client.get("https://x/fapi/v1/ping")).json() == {}
    socket = await dial("/market/stream?streams=btcusdt@kline_1m")
    await trio.sleep(120)
    assert json.loads(await socket.get_message())["stream"] == "btcusdt@kline_1m"


async def test_each_host_is_an_exchange_of_its_own(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A host that no exchange has is refused, on websockets and over REST."""
    markets = {
        name: RandomMarket(symbols=1, seed=7, start_ms=START_MS, venue_name=name)
        for name in ("usdm", "spot")
    }
    async with open_exchanges(markets) as exchanges:
        network = TwinNetwork({"futures": exchanges["usdm"], "spot": exchanges["spot"]}, nursery)
        await network.open_stream(httpx2.URL("wss://spot:9443/stream"))
        async with httpx2.AsyncClient(transport=network.http_transport()) as client:
            assert (await client.get("https://spot/api/v3/ping")).json() == {}
            assert (await client.get("https://futures/fapi/v1/ping")).json() == {}
            assert (await client.get("https://spot/fapi/v1/ping")).status_code == 404
            with pytest.raises(httpx2.ConnectError, match="no such host"):
                await client.get("https://nowhere/fapi/v1/ping")
        with pytest.raises(ExchangeUnreachable, match="cannot connect to nowhere: no such host"):
            await network.open_stream(httpx2.URL("wss://nowhere/stream"))
