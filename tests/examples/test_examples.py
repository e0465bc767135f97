"""Each example in `examples/reading`, run as its users run it, prints the market's candles."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import ccxt
import httpx2
import pytest

from klineagent.core.interval import HOUR_MS, MINUTE_MS, SECOND_MS
from tests.examples.conftest import EXAMPLES, PRICES, START, ReadServer
from tests.examples.test_grafana import the_panel

pytestmark = pytest.mark.slow

MINUTE = timedelta(minutes=1)
_TIME = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
# What the candle is of, its open time, its close.
_CANDLE = re.compile(rf"^(?:(.+) )?{_TIME}\+00:00 ([\d.]+)$", re.MULTILINE)
NAMED = {
    "": ("usdm", "BTCUSDT"),
    "USD-M": ("usdm", "BTCUSDT"),
    "BTCUSDT": ("usdm", "BTCUSDT"),
    "ETHUSDT": ("usdm", "ETHUSDT"),
    "BTC/USDT:USDT": ("usdm", "BTCUSDT"),
    "BTC/USDT": ("spot", "BTCUSDT"),
    "spot": ("spot", "BTCUSDT"),
    "spot in pages": ("spot", "BTCUSDT"),
}
"""By the name that an example prints before a candle: venue and symbol."""
Closes = list[tuple[datetime, float]]


def printed_by(server: ReadServer, example: str) -> dict[str, Closes]:
    """Open times and closes in the order of printing, by name."""
    found: dict[str, Closes] = {}
    for name, opened, close in _CANDLE.findall(server.run(example)):
        found.setdefault(name, []).append((time_of(opened), float(close)))
    return found


def time_of(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def close_of(server: ReadServer, name: str, opened: datetime) -> float:
    """What the market closed a minute at."""
    venue, symbol = NAMED[name]
    return server.minute(opened, symbol, venue)["close"]


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("ccxt_candles.py", {"BTC/USDT:USDT": 5, "BTC/USDT": 5}),
        ("python_binance_candles.py", {"USD-M": 5, "spot": 5, "spot in pages": 61}),
        ("sdk_candles.py", {"": 5}),
    ],
)
def test_candles_are_the_markets(
    server: ReadServer, example: str, expected: dict[str, int]
) -> None:
    """As many as were asked for, each a minute after the other; only the last is forming."""
    printed = printed_by(server, example)
    # Right after a close no state of the next candle is known yet.
    assert {name: len(closes) for name, closes in printed.items()} == {
        name: pytest.approx(count, abs=1) for name, count in expected.items()
    }
    for name, closes in printed.items():
        for (opened, close), (following, _) in pairwise(closes):
            assert following - opened == MINUTE
            assert close == close_of(server, name, opened)


@pytest.mark.parametrize(
    ("example", "names"),
    [
        ("ccxt_pro_watch.py", {""}),
        ("python_binance_sockets.py", {"USD-M", "spot"}),
        ("sdk_streams.py", {""}),
        ("unicorn_streams.py", {"BTCUSDT", "ETHUSDT"}),
    ],
)
def test_candles_close_as_the_markets(server: ReadServer, example: str, names: set[str]) -> None:
    """They come as they form, in order; the last state before the next one is the market's."""
    printed = printed_by(server, example)
    assert printed.keys() == names
    for name, closes in printed.items():
        assert [opened for opened, _ in closes] == sorted(opened for opened, _ in closes)
        last_states = dict(closes)
        are_closed = [
            last_states[opened] == close_of(server, name, opened) for opened in last_states
        ]
        assert are_closed[0]
        assert all(are_closed[:-1])


def test_pandas_resamples_the_markets_candles(server: ReadServer) -> None:
    """The close of five minutes is that of the last of them."""
    resampled = re.findall(
        rf"^{_TIME}\+00:00 +([\d.]+) +([\d.]+)$", server.run("pandas_candles.py"), re.MULTILINE
    )
    assert len(resampled) in {12, 13}
    for opened, bitcoin, ether in resampled[:-1]:
        last = time_of(opened) + 4 * MINUTE
        assert float(bitcoin) == close_of(server, "BTCUSDT", last)
        assert float(ether) == close_of(server, "ETHUSDT", last)


def test_polars_reads_the_markets_candles(server: ReadServer) -> None:
    """The newest ones."""
    rows = re.findall(rf"│ {_TIME} UTC ┆ ([\d.]+) +┆ (\d+) +│", server.run("polars_candles.py"))
    assert len(rows) == 10
    for opened, close, trades in rows:
        minute = server.minute(time_of(opened), "BTCUSDT")
        assert (float(close), int(trades)) == (minute["close"], minute["trades"])


def test_duckdb_sums_up_the_markets_candles(server: ReadServer) -> None:
    """Each whole hour has sixty, and their highest price and last close."""
    cells = rf"│ (\w+) +│ {_TIME} │ +60 │ +([\d.]+) │ +([\d.]+) │"
    hours = re.findall(cells, server.run("duckdb_candles.py"))
    assert {symbol for symbol, *_ in hours} == {"BTCUSDT", "ETHUSDT"}
    assert len(hours) >= 2 * 7
    for symbol, opened, highest, last in hours:
        opens = [time_of(opened) + number * MINUTE for number in range(60)]
        minutes = [server.minute(each, symbol) for each in opens]
        assert float(highest) == max(minute["high"] for minute in minutes)
        assert float(last) == minutes[-1]["close"]


def test_grafana_shows_the_markets_candles(server: ReadServer) -> None:
    """Of the dashboard's time, by the columns that it names."""
    since_ms = int(START.timestamp()) * SECOND_MS - HOUR_MS
    panel = the_panel(
        "candles.json",
        {
            "symbol": "BTCUSDT",
            "interval": "1m",
            "__from": str(since_ms),
            "__to": str(since_ms + HOUR_MS),
        },
    )
    (target,) = panel["targets"]
    answer = httpx2.get(server.base + target["url"]).raise_for_status()
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [datetime.fromisoformat(row["open_time"]).timestamp() * 1_000 for row in rows] == list(
        range(since_ms, since_ms + HOUR_MS, MINUTE_MS)
    )
    selectors = {column["text"]: column["selector"] for column in target["columns"]}
    assert list(selectors) == ["time", *PRICES, "volume"]
    for row in rows:
        minute = server.minute(datetime.fromisoformat(row[selectors["time"]]), "BTCUSDT")
        assert {name: float(row[selectors[name]]) for name in PRICES} == {
            name: minute[name] for name in PRICES
        }


def test_what_is_not_recorded_is_no_permanent_error(server: ReadServer) -> None:
    """Bots try again later; the text says what to do."""
    exchange: Any = ccxt.binanceusdm(
        {
            "options": {"fetchMarkets": {"types": ["linear"]}},
            "urls": {"api": {"fapiPublic": f"{server.base}/fapi/v1"}},
        }
    )
    with pytest.raises(ccxt.OperationFailed, match="BTCUSDT 5m is not recorded; `klineagent add"):
        exchange.fetch_ohlcv("BTC/USDT:USDT", "5m")
    exchange.session.close()


def test_no_example_is_left_out() -> None:
    """Each script is tested here by its name."""
    text = (EXAMPLES.parents[1] / "tests" / "examples" / "test_examples.py").read_text()
    for script in EXAMPLES.glob("*.py"):
        assert f'"{script.name}"' in text
        assert len(script.read_text().splitlines()) < 60
