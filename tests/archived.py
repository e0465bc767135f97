"""The exchange's archive as what tests compare with: each candle as the exchange wrote it."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from decimal import Decimal

from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from tests.places import ARCHIVE

Row = dict[str, str]


def archived(symbol: str) -> dict[int, Row]:
    """The minutes of `symbol` that are archived by the day, by open time."""
    rows: dict[int, Row] = {}
    for day in (ARCHIVE / "data/futures/um/daily/klines" / symbol / "1m").glob("*.zip"):
        with zipfile.ZipFile(day) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        rows |= {int(row["open_time"]): row for row in csv.DictReader(io.StringIO(text))}
    return rows


def fields_of(kline: Kline) -> tuple[object, ...]:
    """What an archived candle tells of `kline`, too."""
    return (
        *(kline.open_time, kline.open, kline.high, kline.low, kline.close, kline.volume),
        *(kline.close_time, kline.quote_volume, kline.trades),
        *(kline.taker_buy_volume, kline.taker_buy_quote_volume),
    )


def expected(rows: Sequence[Row], interval: Interval) -> tuple[object, ...]:
    """The candle that `rows`, all minutes of it, make; sums are exact before they are floats."""

    def total(name: str) -> float:
        return float(sum(Decimal(row[name]) for row in rows))

    open_time = int(rows[0]["open_time"])
    return (
        open_time,
        float(rows[0]["open"]),
        max(float(row["high"]) for row in rows),
        min(float(row["low"]) for row in rows),
        float(rows[-1]["close"]),
        total("volume"),
        interval.close_of(open_time),
        total("quote_volume"),
        sum(int(row["count"]) for row in rows),
        total("taker_buy_volume"),
        total("taker_buy_quote_volume"),
    )
