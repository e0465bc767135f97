"""The names of streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.interval import Interval
from klineagent.exchange.venues import COINM, SPOT, USDM, VENUES
from klineagent.reading.streams.events import stream_name_of
from klineagent.reading.streams.name import read_name
from tests.klines import a_kline

SYMBOLS = st.from_regex(r"[A-Z0-9币]{2,12}(_PERP|_26122[0-9])?", fullmatch=True)


@given(SYMBOLS, st.sampled_from(Interval))
def test_a_series_is_found_by_its_streams(symbol: str, interval: Interval) -> None:
    """By that of its klines and, on futures, by that of the perpetual contract."""
    kline = a_kline()._replace(symbol=symbol, interval=interval.value)
    name = read_name(stream_name_of(kline, is_continuous=False))
    assert name is not None
    assert not name.is_continuous
    assert name.series_on(SPOT) == ("spot", symbol, interval.value)
    on_futures = None if interval is Interval.S1 else ("usdm", symbol, interval.value)
    assert name.series_on(USDM) == on_futures


@pytest.mark.parametrize(("venue", "symbol"), [("usdm", "BTCUSDT"), ("coinm", "BTCUSD_PERP")])
def test_a_perpetual_is_found_by_its_continuous_stream(venue: str, symbol: str) -> None:
    """By that of its pair."""
    kline = a_kline()._replace(venue=venue, symbol=symbol)
    name = read_name(stream_name_of(kline, is_continuous=True))
    assert name is not None
    assert name.series_on(VENUES[venue]) == (venue, symbol, "1m")


@pytest.mark.parametrize(
    ("text", "series"),
    [
        (
            "btcusdt_perpetual@continuousKline_1m",
            {("usdm", "BTCUSDT", "1m"), ("coinm", "BTCUSDT_PERP", "1m")},
        ),
        (
            "btcusd_perpetual@continuousKline_1M",
            {("usdm", "BTCUSD", "1M"), ("coinm", "BTCUSD_PERP", "1M")},
        ),
        ("btcusd_perp@kline_1h", {(v, "BTCUSD_PERP", "1h") for v in ("spot", "coinm", "usdm")}),
        ("btcusdt@kline_1s", {("spot", "BTCUSDT", "1s")}),
    ],
)
def test_a_name_may_mean_a_series_of_each_venue(text: str, series: set[object]) -> None:
    """Which one it is, is decided by what is recorded."""
    name = read_name(text)
    assert name is not None
    assert {*name.series((SPOT, COINM, USDM))} == series


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "",
        "BTCUSDT@kline_1m",
        "btcusdt@kline_1x",
        "btcusdt@kline_",
        "btcusdt@kline_1d@+08:00",
        "btcusdt@markPriceKline_1m",
        "btcusdt@depth",
        "!ticker@arr",
        "btcusdt@continuousKline_1m",
        "btcusdt_current_quarter@continuousKline_1m",
        "Btcusdt_perpetual@continuousKline_1m",
    ],
)
def test_names_without_events(text: str) -> None:
    """They are silent here, as names with capital letters are on the exchange."""
    assert read_name(text) is None
