"""A bot as many run it: ccxt asks for the newest candles of all its pairs at each minute's close.

    python -m klineagent.bench.bots.bot PLAN

It reports `ready` when it has loaded its pairs, waits for a line on standard input, and reports
`closed` for each close, when it has all closed candles.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections import Counter

import msgspec
from attrs import define, field
from msgspec import Struct

from klineagent.bench.child import FAILED, emit
from klineagent.core.interval import MINUTE_MS, SECOND_MS

ROWS = 500
# What bots do when an answer lacks the candle, or is an error.
_AGAIN_S = 1.0


class BotPlan(Struct, frozen=True, kw_only=True):
    """What a bot asks for, and where."""

    url: str
    """The base of REST URLs."""
    symbols: tuple[str, ...]
    closes: int
    is_limited: bool
    """Whether ccxt's own rate limiter is on, as by default."""
    ahead_ms: float
    """How far the exchange's clock is ahead."""

    def now_ms(self) -> float:
        """The exchange's time."""
        return time.time() * SECOND_MS + self.ahead_ms


@define(eq=False)
class Bot:
    """One bot; it counts its requests and what goes wrong."""

    plan: BotPlan
    requests: int = field(default=0, init=False)
    errors: Counter[str] = field(factory=Counter, init=False)
    _closed: dict[str, list[float]] = field(factory=dict, init=False)
    """The candle that closed last, by pair."""

    async def run(self) -> None:
        """Load the pairs, then ask at so many closes."""
        import ccxt.async_support as ccxt

        bot, plan = self, self.plan

        class Counting(ccxt.binanceusdm):  # type: ignore[misc]
            async def fetch(self, *args: object, **kwargs: object) -> object:
                bot.requests += 1
                return await super().fetch(*args, **kwargs)

        exchange = Counting(
            {
                "enableRateLimit": plan.is_limited,
                "options": {"fetchMarkets": {"types": ["linear"]}},
                "urls": {"api": {"fapiPublic": f"{plan.url}/fapi/v1"}},
            }
        )
        try:
            await exchange.load_markets()
            pairs = [exchange.markets_by_id[symbol][0]["symbol"] for symbol in plan.symbols]
            await self.fetch_all(exchange, pairs, 0)
            emit("ready", requests=self.requests, errors=+self.errors)
            self.errors.clear()
            await asyncio.to_thread(sys.stdin.readline)
            close_ms = (int(plan.now_ms()) // MINUTE_MS + 1) * MINUTE_MS
            for _ in range(plan.closes):
                await asyncio.sleep(max(0, close_ms - plan.now_ms()) / SECOND_MS)
                await self.fetch_all(exchange, pairs, close_ms - MINUTE_MS)
                took_ms = plan.now_ms() - close_ms
                emit("closed", took_ms=took_ms, requests=self.requests, errors=+self.errors)
                close_ms += MINUTE_MS
        finally:
            await exchange.close()

    async def fetch_all(self, exchange: object, pairs: list[str], open_ms: int) -> None:
        """Ask for all pairs until each has the candle of `open_ms`, or any if that is 0."""
        await asyncio.gather(*(self._fetch(exchange, pair, open_ms) for pair in pairs))

    async def _fetch(self, exchange: object, pair: str, open_ms: int) -> None:
        import ccxt

        while True:
            try:
                rows = await exchange.fetch_ohlcv(pair, "1m", limit=ROWS)  # type: ignore[attr-defined]
            except ccxt.BaseError as error:
                self.errors[type(error).__name__] += 1
            else:
                if not open_ms or self._take(pair, rows, open_ms):
                    return
                self.errors["the candle was not there"] += 1
            await asyncio.sleep(_AGAIN_S)

    def _take(self, pair: str, rows: list[list[float]], open_ms: int) -> bool:
        """Take the candle of `open_ms`, if it is there; the one before must not have changed."""
        known = self._closed.get(pair)
        self.errors["a closed candle changed"] += known is not None and known not in rows
        found = [row for row in rows[-2:] if row[0] == open_ms]
        if found:
            self._closed[pair] = found[0]
        return bool(found)


def main() -> None:
    """Run the bot given on the command line."""
    # Ctrl-C is for the parent process, which terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(Bot(msgspec.json.decode(sys.argv[1], type=BotPlan)).run())
    except ImportError as error:
        emit(FAILED, error=f"is not installed: {error}; pip install 'klineagent[peers]'")
    except Exception as error:  # noqa: BLE001 - whatever a foreign library raises
        emit(FAILED, error=repr(error))


if __name__ == "__main__":
    main()
