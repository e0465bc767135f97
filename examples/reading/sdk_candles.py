"""Binance's own SDK reads USD-M candles from klineagent."""

import sys
from datetime import UTC, datetime
from typing import Any

from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_derivatives_trading_usds_futures.rest_api.models import (
    KlineCandlestickDataIntervalEnum as Interval,
)

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"

settings = ConfigurationRestAPI(api_key="", base_path=base, timeout=10_000)
api = DerivativesTradingUsdsFutures(config_rest_api=settings).rest_api
rows: Any = api.kline_candlestick_data("BTCUSDT", Interval.INTERVAL_1m, limit=5).data()
for open_ms, _open, _high, _low, close, *_ in rows:
    print(datetime.fromtimestamp(open_ms / 1_000, UTC), close)
