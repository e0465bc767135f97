"""A bot, and what is shown of all of them."""

from __future__ import annotations

import asyncio
import sys

import msgspec
import pytest

from klineagent.bench.bots import bot as bot_module
from klineagent.bench.bots.bot import Bot, BotPlan
from klineagent.bench.bots.comparison import WayResult
from klineagent.bench.child import open_child
from klineagent.bench.figures import Spread
from klineagent.bench.report import ways_table
from klineagent.bench.twin import open_twin
from tests.bench.test_report import lines_of

ccxt = pytest.importorskip("ccxt")


def a_plan(url: str, *symbols: str) -> BotPlan:
    """A bot at one close, without ccxt's rate limiter."""
    return BotPlan(url=url, symbols=symbols, closes=1, is_limited=False, ahead_ms=0)


class Exchange:
    """Has the candle at the third time of asking, and the next one at the fourth."""

    def __init__(self) -> None:
        self.asked = 0

    async def fetch_ohlcv(self, *_: object, limit: int) -> list[list[float]]:
        self.asked += 1
        if self.asked == 1:
            raise ccxt.ExchangeNotAvailable
        return {2: [[6e4]], 3: [[6e4], [12e4]]}.get(self.asked, [[6e4], [18e4]])


def test_a_bot_asks_until_the_closed_candle_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the answer is an error or lacks it; it tells if the candle before has changed."""
    monkeypatch.setattr(bot_module, "_AGAIN_S", 0)
    bot, exchange = Bot(a_plan("")), Exchange()
    asyncio.run(bot.fetch_all(exchange, ["BTC/USDT:USDT"], 120_000))
    assert exchange.asked == 3
    assert +bot.errors == {"ExchangeNotAvailable": 1, "the candle was not there": 1}
    asyncio.run(bot.fetch_all(exchange, ["BTC/USDT:USDT"], 180_000))
    assert bot.errors["a closed candle changed"] == 1


async def test_a_bot_loads_its_pairs_from_the_twin() -> None:
    """It counts every request that ccxt sends: one for the symbols, one for each pair."""
    async with open_twin(symbols={"usdm": 2}) as twin:
        plan = a_plan(twin.rest_urls["usdm"], *twin.symbols["usdm"])
        command = [sys.executable, "-m", "klineagent.bench.bots.bot"]
        async with open_child(
            "bot", [*command, msgspec.json.encode(plan).decode()], reports_on="stdout"
        ) as child:
            ready = await child.event_within(30, "ready")
    assert ready["requests"] == 3


def test_each_way_is_a_line() -> None:
    """With what it cost the exchange, and how long it took."""
    result = WayResult(
        way="on foot",
        requests_at_start=7,
        errors_at_start={},
        requests=1200,
        weight=2400,
        took_s=Spread(15, 1.0, 2.0, 3.0),
        errors={"RateLimitExceeded": 4},
    )
    (line,) = [each for each in lines_of(ways_table([result])) if "on foot" in each]
    assert line.split()[2:5] == ["7", "1,200", "2,400"]
    assert line.split()[-3:] == ["3.0", "RateLimitExceeded", "4"]
