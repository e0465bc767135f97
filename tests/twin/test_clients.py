"""Clients made for the real exchange work with the twin: the official SDK and ccxt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.pro
import pytest
import trio
from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_derivatives_trading_usds_futures.rest_api.models import (
    KlineCandlestickDataIntervalEnum,
)

from klineagent.core.interval import MINUTE_MS
from klineagent.twin.exchange import open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.server import serve_exchange
from klineagent.twin.venues import USDM
from tests.twin.samples import START_MS

pytestmark = pytest.mark.slow

# Fast enough for a few closing events in a second, slow enough that none is missed.
SPEED = 120
# A machine busy with other tests gets much more than it takes.
WITHIN_S = 120


@pytest.fixture
async def origin(market: RandomMarket, nursery: trio.Nursery) -> AsyncIterator[str]:
    """Host and port of a twin whose minutes take half a second."""
    async with open_exchange(market, USDM, speed=SPEED) as exchange:
        host, port = await nursery.start(serve_exchange, exchange, "127.0.0.1", 0)
        yield f"{host}:{port}"


def matches(market: RandomMarket, open_ms: int, trades: int | None, close: float) -> bool:
    """Whether a client read the market's own 1m candle of BTCUSDT."""
    candle = market.minute("BTCUSDT", open_ms)
    assert candle is not None
    return trades in {None, candle.trades} and close == pytest.approx(candle.close / 100)


async def test_the_sdk_reads_rest(origin: str, market: RandomMarket) -> None:
    """Its models parse exchangeInfo, klines and time; it raises the exchange's errors."""

    def use() -> None:
        settings = ConfigurationRestAPI(
            api_key="", base_path=f"http://{origin}", timeout=WITHIN_S * 1_000
        )
        api = DerivativesTradingUsdsFutures(config_rest_api=settings).rest_api
        symbols = api.exchange_information().data().symbols
        assert symbols is not None
        assert "币安人生USDT" in {symbol.symbol for symbol in symbols}
        one_minute = KlineCandlestickDataIntervalEnum.INTERVAL_1m
        answer = api.kline_candlestick_data(symbol="BTCUSDT", interval=one_minute, limit=5)
        rows: Any = answer.data()  # a list, whatever the annotation says
        assert len(rows) == 5
        first = rows[0]
        assert matches(market, int(first[0]), int(first[8]), float(first[4]))
        now = api.check_server_time().data().server_time
        assert now is not None
        assert now > START_MS
        api._session.close()

    await trio.to_thread.run_sync(use)


async def test_the_sdk_receives_klines(origin: str, market: RandomMarket) -> None:
    """It gets a closing event over its three sockets, by its own subscription."""
    heard: list[Any] = []

    async def use() -> None:
        closed = asyncio.Event()

        def hear(event: Any) -> None:
            heard.append(event)
            if event.k.x:
                closed.set()

        streams: Any = DerivativesTradingUsdsFutures(
            config_ws_streams=ConfigurationWebSocketStreams(stream_url=f"ws://{origin}")
        ).websocket_streams
        connection = await streams.create_connection()
        handle = await connection.kline_candlestick_streams(symbol="btcusdt", interval="1m")
        handle.on("message", hear)
        async with asyncio.timeout(WITHIN_S):
            await closed.wait()
        await connection.close_connection(close_session=True)

    await trio.to_thread.run_sync(asyncio.run, use())
    last = heard[-1].k
    assert matches(market, last.t, last.n, float(last.c))


def ccxt_settings(origin: str) -> dict[str, Any]:
    """Settings that point ccxt's USD-M addresses to the twin."""
    return {
        "options": {"defaultType": "swap", "fetchMarkets": {"types": ["linear"]}},
        "urls": {
            "api": {
                "fapiPublic": f"http://{origin}/fapi/v1",
                "ws": {"linear": f"ws://{origin}/ws"},
            }
        },
    }


async def test_ccxt_reads_rest(origin: str, market: RandomMarket) -> None:
    """It finds markets by kind, and candles with the market's numbers."""

    def use() -> None:
        exchange = ccxt.binance(ccxt_settings(origin))
        markets = exchange.load_markets()
        assert markets["BTC/USDT:USDT"]["active"]
        assert not markets["OMG/USDT:USDT"]["active"]
        assert markets["BTC/USDT:USDT-260327"]["future"]
        for row in exchange.fetch_ohlcv("BTC/USDT:USDT", "1m", limit=5)[:-1]:
            assert matches(market, row[0], None, row[4])
        assert exchange.fetch_ohlcv("BTC/USDT:USDT", "1w", limit=5)
        exchange.session.close()

    await trio.to_thread.run_sync(use)


async def test_ccxt_receives_klines(origin: str, market: RandomMarket) -> None:
    """Its socket gets forming candles, and the closed ones equal the market's."""

    async def use() -> dict[int, float]:
        seen: dict[int, float] = {}
        async with (
            asyncio.timeout(WITHIN_S),
            ccxt.pro.binance(ccxt_settings(origin)) as exchange,
        ):
            while len(seen) < 3:
                for row in await exchange.watch_ohlcv("BTC/USDT:USDT", "1m"):
                    seen[row[0]] = row[4]
        return seen

    seen = await trio.to_thread.run_sync(asyncio.run, use())
    first, *_ = sorted(seen)
    assert (first - START_MS) % MINUTE_MS == 0
    assert matches(market, first, None, seen[first])
