"""unicorn-binance-websocket-api gets USD-M candles from klineagent as they form."""

import json
import sys
import time
from datetime import UTC, datetime

from unicorn_binance_websocket_api import BinanceWebSocketApiManager

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"

manager = BinanceWebSocketApiManager(
    exchange="binance.com-futures",
    websocket_base_uri=f"{base.replace('http', 'ws', 1)}/",
    restful_base_uri=base,
)
manager.create_stream("kline_1m", ["btcusdt", "ethusdt"])
closed: set[str] = set()
while len(closed) < 2:
    event = manager.pop_stream_data_from_stream_buffer()
    if not event:
        time.sleep(0.01)
    elif "data" in (message := json.loads(event)):  # Answers to subscriptions have none.
        candle = message["data"]["k"]
        print(candle["s"], datetime.fromtimestamp(candle["t"] / 1_000, UTC), candle["c"])
        if candle["x"]:
            closed.add(candle["s"])
manager.stop_manager()
