"""The candles that an earlier run has recorded: a long series, and enough of many others.

    python -m klineagent.bench.reading.history HISTORY

It fills a store, reports `filled` and ends.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import islice

import msgspec
import trio
from msgspec import Struct

from klineagent.bench.child import FAILED, emit
from klineagent.bench.probes import TwinClock
from klineagent.core.errors import KlineagentError
from klineagent.core.interval import MINUTE_MS
from klineagent.core.kline import Kline, version_of
from klineagent.exchange.venues import USDM
from klineagent.storage.opening import open_store
from klineagent.storage.store import Batch

_ROWS_AT_ONCE = 50_000


class History(Struct, frozen=True, kw_only=True):
    """Minutes of USD-M pairs until now."""

    store: str
    minutes: dict[str, int]
    """How many by symbol."""
    twin: str
    """The URL of the twin's REST API; its clock counts."""

    def klines(self, end_ms: int) -> Iterator[Kline]:
        """Yield all candles, by symbol and time."""
        draw = random.Random(1)  # noqa: S311 - prices
        for symbol, minutes in self.minutes.items():
            price = 100.0
            for open_ms in range(end_ms - minutes * MINUTE_MS, end_ms, MINUTE_MS):
                change = round(draw.uniform(-0.05, 0.05), 2)
                yield _kline(symbol, open_ms, price, price + change)
                price = round(max(10, price + change), 2)


def _kline(symbol: str, open_ms: int, first: float, last: float) -> Kline:
    close_ms = open_ms + MINUTE_MS - 1
    return Kline(
        venue="usdm",
        symbol=symbol,
        interval="1m",
        open_time=open_ms,
        close_time=close_ms,
        open=first,
        high=max(first, last),
        low=min(first, last),
        close=last,
        volume=round(first * 7.3, 3),
        quote_volume=round(first * 711.7, 5),
        trades=200,
        taker_buy_volume=round(first * 3.1, 3),
        taker_buy_quote_volume=round(first * 301.3, 5),
        first_trade_id=-1,
        last_trade_id=-1,
        is_closed=True,
        event_time=close_ms + 1,
        version=version_of(close_ms + 1, close_ms, is_closed=True),
        source="archive",
    )


async def _fill(history: History) -> None:
    clock = await TwinClock.read(history.twin, USDM)
    end_ms = int(clock.now_ms()) // MINUTE_MS * MINUTE_MS
    async with open_store(history.store) as store:
        await store.prepare()
        klines, number = history.klines(end_ms), 0
        while rows := tuple(islice(klines, _ROWS_AT_ONCE)):
            await store.insert(Batch(token=f"history-{number}", klines=rows))
            number += 1


def main() -> None:
    """Fill the store named on the command line."""
    try:
        trio.run(_fill, msgspec.json.decode(sys.argv[1], type=History))
        emit("filled")
    except KlineagentError as error:
        emit(FAILED, error=str(error))


if __name__ == "__main__":
    main()
