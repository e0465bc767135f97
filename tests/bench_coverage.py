"""Measure the start's look at the store, however much is stored: `make bench-coverage`.

The bar: over three years of ten series it takes at most twice as long as over one month.
"""

from __future__ import annotations

import sys
import tempfile
import time

import trio
from attrs import evolve

from klineagent.core.interval import DAY_MS, MINUTE_MS, Interval
from klineagent.series.backfill.startup import since_of
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.queries import insert_klines
from klineagent.storage.clickhouse.server import ClickHouseStore
from klineagent.storage.opening import open_store
from klineagent.storage.store import Store, Table
from tests.storage.samples import sample
from tests.storage.test_store import rows_of

BEGIN_MS = 1_672_531_200_000  # 2023-01-01
MONTH_MS = 30 * DAY_MS
MONTHS = (1, 12, 36)
SYMBOLS = [f"S{number}USDT" for number in range(10)]
TRIES = 20


async def fill(store: Store, month: int) -> None:
    """Store a month of 1m candles of every symbol, made by the database itself."""
    assert isinstance(store, (ClickHouseStore, EmbeddedStore))
    layout = store._layout
    assert layout is not None
    opened = (
        f"toInt64({BEGIN_MS + month * MONTH_MS} + intDiv(number, {len(SYMBOLS)}) * {MINUTE_MS})"
    )

    def told(name: str, value: object) -> str:
        if name.endswith("_time"):
            return f"fromUnixTimestamp64Milli({opened}, 'UTC')" if layout.ticking else opened
        if name == "symbol":
            return f"concat('S', toString(number % {len(SYMBOLS)}), 'USDT')"
        return "1" if name == "is_closed" else f"'{value}'" if isinstance(value, str) else "1"

    columns = ", ".join(told(name, value) for name, value in sample()._asdict().items())
    rows = len(SYMBOLS) * MONTH_MS // MINUTE_MS
    insert = insert_klines(evolve(layout, database="{db}", with_lengths=False), Table.KLINES)
    insert = insert.replace("`{db}`", "{db}")
    await rows_of(store, f"{insert} SELECT {columns} FROM numbers({rows})")


async def measure(url: str) -> None:
    """Fill a store month by month, and look at it as a start does."""
    async with open_store(url) as store:
        await store.prepare()
        print(f"{'months':>6} {'rows':>12}   start's look")
        for month in range(MONTHS[-1]):
            await fill(store, month)
            if (months := month + 1) not in MONTHS:
                continue
            now_ms = BEGIN_MS + months * MONTH_MS
            since = since_of(Interval.M1, now_ms, history=500, lookback_ms=DAY_MS)
            took_s = []
            for _ in range(TRIES):
                began = time.perf_counter()
                found = await store.coverage("usdm", {"1m": since}, SYMBOLS)
                took_s.append(time.perf_counter() - began)
                assert [each.runs for each in found] == [((since, now_ms - MINUTE_MS),)] * 10
            rows = months * len(SYMBOLS) * MONTH_MS // MINUTE_MS
            print(f"{months:6} {rows:12,}   {min(took_s) * 1000:.0f} ms", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trio.run(measure, sys.argv[1] if len(sys.argv) > 1 else f"chdb://{folder}/klines")
