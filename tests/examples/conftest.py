"""One agent for all examples: it records USD-M and spot from a twin that runs ahead of time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from attrs import frozen

from klineagent.core.interval import SECOND_MS
from klineagent.twin.market.candle import to_text
from klineagent.twin.market.random import RandomMarket
from tests.places import ROOT

EXAMPLES = ROOT / "examples" / "reading"
START = datetime(2026, 2, 1, 12, tzinfo=UTC)
# A candle closes each second.
SPEED = 60
SEED = 1
COINS = ("BTC", "ETH")
VENUES = ("usdm", "spot")
WITHIN_S = 120
PRICES = ("open", "high", "low", "close")
LOOK_EVERY_S = 0.1


@frozen
class ReadServer:
    """The read server of a running agent, and the markets that it records."""

    base: str
    markets: Mapping[str, RandomMarket]

    def run(self, example: str) -> str:
        """Run an example as its users do, and return what it prints."""
        ended = subprocess.run(
            [sys.executable, EXAMPLES / example, self.base],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def minute(self, opened: datetime, symbol: str, venue: str = "usdm") -> dict[str, float]:
        """The market's closed candle: its prices by name, and its trades."""
        market = self.markets[venue]
        candle = market.minute(symbol, int(opened.timestamp()) * SECOND_MS)
        assert candle is not None
        (listing,) = (each for each in market.listings if each.symbol == symbol)
        prices = {
            name: float(to_text(getattr(candle, name), listing.price_places)) for name in PRICES
        }
        return {**prices, "trades": candle.trades}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadServer]:
    """An agent that has fetched the candles before its start."""
    with recording(tmp_path_factory.mktemp("logs"), start=START, speed=SPEED) as served:
        yield served


@contextmanager
def recording(
    log: Path, *options: str, start: datetime | None = None, speed: float = 1.0
) -> Iterator[ReadServer]:
    """Run a twin of both venues, of the present by default, and an agent that records it."""
    moment = () if start is None else ("--start", f"{start:%Y-%m-%dT%H:%M:%S}")
    twin = (
        *("simulate", "--bind", "127.0.0.1:0", "--venues", ",".join(VENUES)),
        *("--symbols", str(len(COINS)), "--seed", str(SEED)),
        *(*moment, "--speed", str(speed)),
    )
    with klineagent(log / "twin", *twin):
        addresses: list[str] = []
        for told in logged(log / "twin", "exchange_twin", count=len(VENUES)):
            for option, url in (("--ws-url", "ws_url"), ("--rest-url", "rest_url")):
                addresses += [option, f"{told['venue']}={told[url]}"]
        symbols = [f"{venue}:{coin}USDT" for venue in VENUES for coin in COINS]
        binds = [f"--{each}-bind=127.0.0.1:0" for each in ("command", "status", "read")]
        agent = ("--store=memory:", "--spool=none", "--state=none", "--intervals=1m", *binds)
        with klineagent(log / "agent", "serve", *symbols, *addresses, *agent, *options):
            (readable,) = logged(log / "agent", "readable")
            base = f"http://{readable['read']}"
            wait_for_history(base)
            start_ms = int((start or datetime.now(UTC)).timestamp()) * SECOND_MS
            markets = {
                venue: RandomMarket(
                    symbols=len(COINS), seed=SEED, start_ms=start_ms, venue_name=venue
                )
                for venue in VENUES
            }
            yield ReadServer(base, markets)


@contextmanager
def klineagent(log: Path, *arguments: str) -> Iterator[None]:
    """Run `klineagent ARGUMENTS` with its log in a file while the block lasts."""
    command = [sys.executable, "-m", "klineagent", *arguments, "--log-format", "json"]
    with log.open("wb") as written, subprocess.Popen(command, stderr=written) as process:
        try:
            yield
        finally:
            process.terminate()


def logged(log: Path, event: str, *, count: int = 1) -> list[dict[str, str]]:
    """The first events of this name; waits for them."""
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        lines = log.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        found = [each for each in events if each["event"] == event]
        if len(found) >= count:
            return found[:count]
        time.sleep(LOOK_EVERY_S)
    raise AssertionError(f"no {event} in time: {log.read_text()}")


def wait_for_history(base: str) -> None:
    """Wait until every series answers with some hours."""
    until = time.monotonic() + WITHIN_S
    paths = [f"{prefix}/klines" for prefix in ("/fapi/v1", "/api/v3")]
    asked = [(path, f"{coin}USDT") for path in paths for coin in COINS]
    with httpx2.Client(base_url=base) as client:
        while asked and time.monotonic() < until:
            path, symbol = asked[0]
            query = {"symbol": symbol, "interval": "1m", "limit": "400"}
            if client.get(path, params=query).is_success:
                asked.pop(0)
            else:
                time.sleep(LOOK_EVERY_S)
    assert not asked
