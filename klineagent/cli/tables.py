"""Tables for the terminal: stored series and candles. All of them fit into 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table

from klineagent.core.interval import SECOND_MS, Interval
from klineagent.core.kline import Kline
from klineagent.storage.store import SeriesSummary

PIPE_COLUMNS = 200
"""A pipe has no width; nothing is cut on its way to another program."""


def wide_console() -> Console:
    """Make a console on standard output; a pipe gets `PIPE_COLUMNS` columns."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)


def summary_table(series: Iterable[SeriesSummary], *, title: str) -> Table:
    """Make a table of closed candles stored, a line per series."""
    table = plain_table(
        title, ["venue", "symbol", "interval"], ["candles"], ["first open", "last open"]
    )
    for each in series:
        opens = (open_text(at_ms, each.interval) for at_ms in (each.first_open, each.last_open))
        table.add_row(each.venue, each.symbol, each.interval, str(each.closed), *opens)
    return table


def candles_table(klines: Iterable[Kline], *, title: str, with_source: bool = False) -> Table:
    """Make a table of candles of one series, a line each."""
    table = plain_table(title, ["open time"], _NUMBERS, ["source"] if with_source else [])
    for kline in klines:
        source = [kline.source] if with_source else []
        table.add_row(open_text(kline.open_time, kline.interval), *_numbers(kline), *source)
    return table


def updates_table(klines: Iterable[Kline], *, title: str) -> Table:
    """Make a table of candle states of one series, a line each, with the second of their event."""
    table = plain_table(title, ["open time", "event time"], _NUMBERS[1:], [""])
    for kline in klines:
        times = (clock_text(kline.open_time)[5:], _second_text(kline.event_time)[5:])
        table.add_row(*times, *_numbers(kline)[1:], "closed" if kline.is_closed else "")
    return table


def arrivals_table(klines: Iterable[Kline], *, caption: str) -> Table:
    """Make a table of the newest candles of many series, closed ones in bold."""
    # Symbols may name their venue, so there is no room for the number of trades.
    table = plain_table("Candles arriving", ["symbol", "", "open"], _NUMBERS[:-1])
    table.caption = caption
    for kline in klines:
        opened = clock_text(kline.open_time)[-5:]
        style = "bold" if kline.is_closed else None
        table.add_row(kline.symbol, kline.interval, opened, *_numbers(kline)[:-1], style=style)
    return table


def clock_text(time_ms: int) -> str:
    """Format a time in milliseconds as UTC, to the minute."""
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%Y-%m-%d %H:%M}"


def open_text(time_ms: int, interval: str) -> str:
    """Format an open time, to the second where candles are as short as that."""
    return _second_text(time_ms) if interval == Interval.S1.value else clock_text(time_ms)


def _second_text(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / SECOND_MS, UTC):%Y-%m-%d %H:%M:%S}"


_NUMBERS = ["open", "high", "low", "close", "volume", "trades"]


def _numbers(kline: Kline) -> list[str]:
    prices = (kline.open, kline.high, kline.low, kline.close)
    return [*(f"{price:.8g}" for price in prices), f"{kline.volume:.5g}", str(kline.trades)]


def plain_table(
    title: str, texts: Iterable[str], numbers: Iterable[str], more_texts: Iterable[str] = ()
) -> Table:
    """Make an empty table without lines; its cells are not wrapped."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="right")
    for name in more_texts:
        table.add_column(name, no_wrap=True)
    return table
