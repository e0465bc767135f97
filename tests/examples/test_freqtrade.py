"""freqtrade trades, dry, on what an agent answers.

It has its own versions of half of our packages, and so an environment of its own: `make clients`.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from klineagent.core.interval import MINUTE_MS, SECOND_MS
from tests.examples.conftest import EXAMPLES, LOOK_EVERY_S, PRICES, VENUES, ReadServer, recording
from tests.places import ROOT

FREQTRADE = ROOT / ".venv-freqtrade" / "bin" / "freqtrade"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FREQTRADE.exists(), reason="freqtrade is not here: make clients"),
]

EXAMPLE = EXAMPLES / "freqtrade"
CONFIGS = {"usdm": "futures.json", "spot": "spot.json"}
# It may start amid a falling minute, and looks at each candle once.
TRADES_WITHIN_S = 240
# It trades from minute to minute; one is over by then.
AT_LEAST_S = 75


@pytest.fixture(scope="module")
def forwarding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadServer]:
    """An agent of the present: freqtrade refuses candles of other times."""
    with recording(tmp_path_factory.mktemp("logs"), "--forward") as server:
        yield server


def test_freqtrade_downloads_the_markets_candles(forwarding: ReadServer, tmp_path: Path) -> None:
    """All that are recorded, without a hole; it leaves out the last, which is forming."""
    options = ("--timeframes", "1m", "--days", "1", "--data-format-ohlcv", "json")
    command = freqtrade("download-data", tmp_path / "spot", "spot", forwarding)
    subprocess.run([*command, *options], check=True, capture_output=True)
    (data,) = (tmp_path / "spot" / "data" / "binance").glob("BTC_USDT-1m.json")
    rows = json.loads(data.read_text())
    assert len(rows) >= 500
    assert [row[0] for row in rows] == list(range(rows[0][0], rows[-1][0] + 1, MINUTE_MS))
    for opened, *prices, _volume in rows:
        minute = forwarding.minute(
            datetime.fromtimestamp(opened / SECOND_MS, UTC), "BTCUSDT", "spot"
        )
        assert prices == [minute[name] for name in PRICES]


def test_freqtrade_trades_at_the_markets_prices(forwarding: ReadServer, tmp_path: Path) -> None:
    """On both venues, without a warning: no candle is late, nothing it asks is refused."""
    with (
        trading(tmp_path / "usdm", "usdm", forwarding),
        trading(tmp_path / "spot", "spot", forwarding),
    ):
        until = time.monotonic() + TRADES_WITHIN_S
        enough = time.monotonic() + AT_LEAST_S
        while time.monotonic() < until:
            everywhere = all(trades_of(tmp_path / venue) for venue in VENUES)
            if everywhere and time.monotonic() > enough:
                break
            time.sleep(LOOK_EVERY_S)
        for venue in VENUES:
            log = (tmp_path / venue / "log").read_text()
            assert re.findall("^.* (?:WARNING|ERROR) .*$", log, re.MULTILINE) == []
            trades = trades_of(tmp_path / venue)
            assert trades, log
            for pair, opened, rate in trades:
                symbol = pair.partition(":")[0].replace("/", "")
                minute = forwarding.minute(opened.replace(second=0, microsecond=0), symbol, venue)
                assert minute["low"] <= rate <= minute["high"]


def freqtrade(what: str, folder: Path, venue: str, server: ReadServer) -> list[str | Path]:
    """The command with the example's configuration, in a folder of its own."""
    folder.mkdir()
    config = (EXAMPLE / CONFIGS[venue]).read_text()
    address = server.base.removeprefix("http://")
    (folder / "config.json").write_text(config.replace("127.0.0.1:9977", address))
    return [FREQTRADE, what, "--config", folder / "config.json", "--userdir", folder]


@contextmanager
def trading(folder: Path, venue: str, server: ReadServer) -> Iterator[None]:
    """Run freqtrade with the example's strategy while the block lasts."""
    command = [
        *freqtrade("trade", folder, venue, server),
        *("--strategy", "Rising", "--strategy-path", EXAMPLE),
        *("--db-url", f"sqlite:///{folder / 'trades'}"),
    ]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def trades_of(folder: Path) -> list[tuple[str, datetime, float]]:
    """Pair, time and price of the trades that were opened so far."""
    if not (folder / "trades").exists():
        return []
    with closing(sqlite3.connect(folder / "trades")) as database:
        try:
            found = database.execute("SELECT pair, open_date, open_rate FROM trades").fetchall()
        except sqlite3.OperationalError:  # it has not made its tables yet
            return []
    return [
        (pair, datetime.fromisoformat(opened).replace(tzinfo=UTC), rate)
        for pair, opened, rate in found
    ]
