"""ccxt.pro watches candles that klineagent receives; one agent feeds any number of bots."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

import ccxt.pro

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"


async def main() -> None:
    settings = {
        "options": {"fetchMarkets": {"types": ["linear"]}},
        "urls": {
            "api": {
                "fapiPublic": f"{base}/fapi/v1",
                "ws": {"linear": f"{base.replace('http', 'ws', 1)}/ws"},
            }
        },
    }
    exchange: Any
    async with ccxt.pro.binanceusdm(settings) as exchange:
        opened: set[int] = set()
        while len(opened) < 2:  # Once the next candle opens, the one before is closed.
            for open_ms, *_, close, _volume in await exchange.watch_ohlcv("BTC/USDT:USDT", "1m"):
                print(datetime.fromtimestamp(open_ms / 1_000, UTC), close)
                opened.add(open_ms)


asyncio.run(main())
