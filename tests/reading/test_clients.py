"""Clients made for the exchange read from the agent: ccxt and the official SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import ccxt
import pytest
import trio
from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_derivatives_trading_usds_futures.rest_api.models import (
    KlineCandlestickDataIntervalEnum,
)

from klineagent.agent import open_agent
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.storage.memory.store import MemoryStore
from klineagent.testing.simulation import FEBRUARY_2026_MS
from klineagent.twin.exchange import Exchange, open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.server import serve_exchange
from klineagent.twin.venues import USDM

pytestmark = pytest.mark.slow

LOOPBACK = Bind("127.0.0.1", 0)
SPEED = 5
WITHIN_S = 120


@pytest.fixture
async def origin(nursery: trio.Nursery) -> AsyncIterator[str]:
    """Host and port of the read server of an agent that has recorded a few minutes."""
    market = RandomMarket(symbols=2, seed=1, start_ms=FEBRUARY_2026_MS, venue_name="usdm")
    async with open_exchange(market, USDM, speed=SPEED) as exchange:
        host, port = await nursery.start(serve_exchange, exchange, "127.0.0.1", 0)
        config = Config(
            symbols=["BTCUSDT"],
            intervals=[Interval.M1],
            store="memory:",
            ws_url=f"ws://{host}:{port}/market",
            rest_url=f"http://{host}:{port}",
            command_bind=LOOPBACK,
            status_bind=LOOPBACK,
            read_bind=LOOPBACK,
        )
        async with open_agent(config, store=MemoryStore()) as agent:
            with trio.fail_after(WITHIN_S):
                await _recorded(exchange, agent.registry.missing)
            assert agent.read_bind is not None
            yield str(agent.read_bind)


async def _recorded(exchange: Exchange, missing: Any) -> None:
    """Wait until a candle has closed and none is missing."""
    await exchange.clock.sleep_until(exchange.market.start_ms + 3 * MINUTE_MS)
    while missing():  # noqa: ASYNC110 - there is no event
        await trio.sleep(0.1)


async def test_ccxt_loads_markets_and_candles(origin: str) -> None:
    """It begins with exchangeInfo; five hundred candles, each a minute after the last."""

    def use() -> list[list[float]]:
        exchange: Any = ccxt.binanceusdm(
            {
                "options": {"fetchMarkets": {"types": ["linear"]}},
                "urls": {"api": {"fapiPublic": f"http://{origin}/fapi/v1"}},
            }
        )
        assert "BTC/USDT:USDT" in exchange.load_markets()
        candles: list[list[float]] = exchange.fetch_ohlcv("BTC/USDT:USDT", "1m", limit=400)
        with pytest.raises(ccxt.OperationFailed, match="ETHUSDT 1m is not recorded"):
            exchange.fetch_ohlcv("ETH/USDT:USDT", "1m")
        return candles

    candles = await trio.to_thread.run_sync(use)
    opens = [candle[0] for candle in candles]
    assert len(opens) in {399, 400}
    assert opens == list(range(int(opens[0]), int(opens[-1]) + 1, MINUTE_MS))


async def test_the_sdk_reads_candles_and_the_time(origin: str) -> None:
    """Its models parse them."""

    def use() -> None:
        settings = ConfigurationRestAPI(
            api_key="", base_path=f"http://{origin}", timeout=WITHIN_S * 1_000
        )
        api = DerivativesTradingUsdsFutures(config_rest_api=settings).rest_api
        one_minute = KlineCandlestickDataIntervalEnum.INTERVAL_1m
        answer = api.kline_candlestick_data(symbol="BTCUSDT", interval=one_minute, limit=5)
        rows: Any = answer.data()
        assert len(rows) in {4, 5}
        now = api.check_server_time().data().server_time
        assert now is not None
        assert now > FEBRUARY_2026_MS
        api._session.close()

    await trio.to_thread.run_sync(use)
