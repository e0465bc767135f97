"""python-binance reads USD-M and spot candles from klineagent instead of the exchange."""

import sys
from datetime import UTC, datetime

from binance.client import Client

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"


class Agent(Client):  # type: ignore[misc]
    """A client of klineagent instead of the exchange."""

    API_URL = f"{base}/api"
    FUTURES_URL = f"{base}/fapi"


client = Agent()
newest = client.futures_klines(symbol="BTCUSDT", interval="1m", limit=5)
an_hour_ago_ms = newest[-1][0] - 3_600_000
for name, rows in (
    ("USD-M", newest),
    ("spot", client.get_klines(symbol="BTCUSDT", interval="1m", limit=5)),
    ("spot in pages", client.get_historical_klines("BTCUSDT", "1m", an_hour_ago_ms)),
):
    for open_ms, _open, _high, _low, close, *_ in rows:
        print(name, datetime.fromtimestamp(open_ms / 1_000, UTC), close)
