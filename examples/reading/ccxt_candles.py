"""ccxt reads USD-M and spot candles from klineagent; run it with the read server's address."""

import sys
from datetime import UTC, datetime
from typing import Any

import ccxt

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"

futures: Any = ccxt.binanceusdm(
    {
        # Otherwise ccxt asks for the markets of venues that the agent may not record.
        "options": {"fetchMarkets": {"types": ["linear"]}},
        "urls": {"api": {"fapiPublic": f"{base}/fapi/v1"}},
    }
)
spot: Any = ccxt.binance(
    {
        "options": {"fetchMarkets": {"types": ["spot"]}},
        "urls": {"api": {"public": f"{base}/api/v3"}},
    }
)

for exchange, symbol in ((futures, "BTC/USDT:USDT"), (spot, "BTC/USDT")):
    # The last candle is still forming.
    for open_ms, *_, close, _volume in exchange.fetch_ohlcv(symbol, "1m", limit=5):
        print(symbol, datetime.fromtimestamp(open_ms / 1_000, UTC), close)
