"""Binance's own SDK gets USD-M candles from klineagent as they form."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

from binance_common.configuration import ConfigurationWebSocketStreams
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"


async def main() -> None:
    settings = ConfigurationWebSocketStreams(stream_url=base.replace("http", "ws", 1))
    streams: Any = DerivativesTradingUsdsFutures(config_ws_streams=settings).websocket_streams
    connection = await streams.create_connection()
    candles: asyncio.Queue[Any] = asyncio.Queue()
    stream = await connection.kline_candlestick_streams(symbol="btcusdt", interval="1m")
    stream.on("message", lambda event: candles.put_nowait(event.k))
    is_closed = False
    while not is_closed:
        candle = await candles.get()
        print(datetime.fromtimestamp(candle.t / 1_000, UTC), candle.c)
        is_closed = candle.x
    await connection.close_connection(close_session=True)


asyncio.run(main())
