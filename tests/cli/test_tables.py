"""Stored candles on a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from klineagent.cli.tables import candles_table
from tests.klines import a_kline


@pytest.mark.parametrize(("interval", "length"), [("1s", 19), ("1m", 16)])
def test_open_times_are_as_exact_as_candles_are_short(interval: str, length: int) -> None:
    """Candles of a second would all look the same to the minute."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(candles_table([a_kline()._replace(interval=interval)], title="candles"))
    row = next(line for line in capture.get().splitlines() if line.strip().startswith("20"))
    day, clock, *_ = row.split()
    assert len(f"{day} {clock}") == length
