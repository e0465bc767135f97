"""freqtrade trades, dry, on what an agent answers.

It has its own versions of half of our packages, and so an environment of its own: `make clients`.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.examples.conftest import EXAMPLES, LOOK_EVERY_S, VENUES, ReadServer, recording
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


def test_freqtrade_trades_at_the_markets_prices(tmp_path: Path) -> None:
    """On both venues, without a warning: no candle is late, nothing it asks is refused."""
    now = datetime.now(UTC).replace(microsecond=0)
    with (
        recording(tmp_path, "--forward", start=now) as server,
        trading(tmp_path / "usdm", "usdm", server),
        trading(tmp_path / "spot", "spot", server),
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
                minute = server.minute(opened.replace(second=0, microsecond=0), symbol, venue)
                assert minute["low"] <= rate <= minute["high"]


@contextmanager
def trading(folder: Path, venue: str, server: ReadServer) -> Iterator[None]:
    """Run freqtrade with the example's configuration and strategy while the block lasts."""
    folder.mkdir()
    config = (EXAMPLE / CONFIGS[venue]).read_text()
    address = server.base.removeprefix("http://")
    (folder / "config.json").write_text(config.replace("127.0.0.1:9977", address))
    command: list[str | Path] = [
        *(FREQTRADE, "trade", "--config", folder / "config.json", "--userdir", folder),
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
