"""What a terminal shows: stored series, newest candles."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.table import Table

from klineagent.kline import SECOND_MS, Kline
from klineagent.storage.store import SeriesSummary


def summary_table(series: Iterable[SeriesSummary], *, title: str) -> Table:
    """Closed candles stored, a line per series."""
    table = Table(title=title)
    for name in ("venue", "symbol", "interval"):
        table.add_column(name)
    table.add_column("closed candles", justify="right")
    for name in ("first open (UTC)", "last open (UTC)"):
        table.add_column(name, no_wrap=True)
    for each in series:
        table.add_row(
            each.venue,
            each.symbol,
            each.interval,
            str(each.closed),
            clock_text(each.first_open),
            clock_text(each.last_open),
        )
    return table


def klines_table(klines: Iterable[Kline], *, title: str, caption: str = "") -> Table:
    """Candles, a line each."""
    table = Table(title=title, caption=caption)
    for name in ("symbol", "interval", "open time (UTC)"):
        table.add_column(name)
    for name in ("open", "high", "low", "close", "volume", "trades"):
        table.add_column(name, justify="right")
    table.add_column("")
    for kline in klines:
        prices = (kline.open, kline.high, kline.low, kline.close, kline.volume)
        table.add_row(
            kline.symbol,
            kline.interval,
            clock_text(kline.open_time),
            *(f"{price:.10g}" for price in prices),
            str(kline.trades),
            "closed" if kline.is_closed else "forming",
        )
    return table


def clock_text(time_ms: int) -> str:
    """A time in milliseconds as people read it, to the second."""
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%Y-%m-%d %H:%M:%S}"
