"""pandas reads closed candles of two symbols, as CSV, and resamples them."""

import sys

import pandas as pd

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"

candles = pd.read_csv(
    f"{base}/v1/candles?symbol=BTCUSDT,ETHUSDT&interval=1m&last=60",
    parse_dates=["open_time", "close_time"],
)
print(candles.tail())
closes = candles.pivot(index="open_time", columns="symbol", values="close")
print(closes.resample("5min").last())
