"""duckdb answers SQL over candles that klineagent sends as an Arrow stream, while they arrive."""

import sys
from urllib.request import urlopen

import duckdb
import pyarrow as pa

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9977"

with urlopen(f"{base}/v1/candles?symbol=BTCUSDT,ETHUSDT&interval=1m&format=arrow") as answer:
    candles = pa.ipc.open_stream(answer)
    print(
        duckdb.sql(
            """
            SELECT symbol, time_bucket(INTERVAL 1 hour, open_time AT TIME ZONE 'UTC') AS hour,
                count() AS candles, max(high) AS highest, arg_max(close, open_time) AS last
            FROM candles GROUP BY ALL ORDER BY ALL
            """
        )
    )
