"""Arguments that are accepted, and errors for those that are not."""

from __future__ import annotations

import pytest

from klineagent.cli.options import read_interval, read_symbol
from klineagent.core.errors import ConfigError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM


def test_symbols_are_read_in_capitals() -> None:
    """As the exchange writes them."""
    assert read_symbol("btcusdt") == "BTCUSDT"


@pytest.mark.parametrize("text", ["1m", "*USDT"])
def test_what_is_no_symbol_is_told_with_the_arguments_name(text: str) -> None:
    """Intervals and patterns have other places."""
    with pytest.raises(ConfigError, match="SYMBOL: "):
        read_symbol(text)


def test_intervals_are_those_of_the_venue() -> None:
    """Where it is known; a month is no minute."""
    assert read_interval("1M") is Interval.MO1
    assert read_interval("1s") is Interval.S1
    for text in ("1s", "7m", ""):
        with pytest.raises(ConfigError, match="INTERVAL: "):
            read_interval(text, USDM)
