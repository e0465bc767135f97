"""Which stored series are meant by symbols, patterns and intervals."""

from __future__ import annotations

import pytest

from klineagent.cli.sql.selection import SeriesSelection, read_asked
from klineagent.core.errors import ConfigError, StartError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM

STORED = [
    ("spot", "BTCUSDT", "1m"),
    ("usdm", "BTCUSDT", "1m"),
    ("usdm", "BTCUSDT", "1h"),
    ("usdm", "ETHUSDT", "1m"),
]


def _selected(*names: str, intervals: tuple[Interval, ...] = ()) -> list[tuple[str, str, str]]:
    return SeriesSelection(asked=read_asked(names, USDM), intervals=intervals).of(STORED)


def test_a_symbol_is_one_of_the_default_venue() -> None:
    """At all stored intervals; another venue is named with it."""
    assert _selected("btcusdt") == STORED[1:3]
    assert _selected("spot:BTCUSDT") == STORED[:1]


def test_a_pattern_means_all_symbols_that_match() -> None:
    """Each once, even if several names mean it."""
    assert _selected("*USDT") == STORED[1:]
    assert _selected("*", "ETH*", "spot:*") == STORED


def test_intervals_narrow_it() -> None:
    """A pattern's symbols need not have all of them."""
    assert _selected("*", intervals=(Interval.H1, Interval.M1)) == STORED[1:]
    assert _selected("*", intervals=(Interval.H1,)) == STORED[2:3]


@pytest.mark.parametrize(
    ("names", "intervals", "message"),
    [
        (["XYZ"], [], "no closed candle of XYZ is stored"),
        (["BTCUSDT", "X*"], [], r"no closed candle of X\* is stored"),
        (["ETHUSDT"], [Interval.M1, Interval.H1], "no closed candle of ETHUSDT at 1h is stored"),
        (["spot:*"], [Interval.H1], r"no closed candle of spot:\* at 1h is stored"),
    ],
)
def test_what_is_not_stored_is_no_export(
    names: list[str], intervals: list[Interval], message: str
) -> None:
    """Nothing is left out silently."""
    with pytest.raises(StartError, match=message):
        _selected(*names, intervals=tuple(intervals))


def test_a_venue_must_exist() -> None:
    """The message names those there are."""
    with pytest.raises(ConfigError, match="usdm"):
        read_asked(["nyse:IBM"], USDM)
