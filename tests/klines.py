"""Klines for tests."""

from collections.abc import Sequence

import trio

from klineagent.core.interval import MINUTE_MS
from klineagent.core.kline import Kline, Publish, version_of

OPEN_MS = 1_769_904_000_000  # 2026-02-01 00:00 UTC


def a_kline(minute: int = 0, *, is_closed: bool = True, after_ms: int = 60_050) -> Kline:
    """A 1m kline of BTCUSDT, `minute` minutes into February 2026, as of `after_ms` into it."""
    open_time = OPEN_MS + minute * MINUTE_MS
    event_time = open_time + after_ms
    return Kline(
        venue="usdm",
        symbol="BTCUSDT",
        interval="1m",
        open_time=open_time,
        close_time=open_time + MINUTE_MS - 1,
        open=1.5,
        high=2.25,
        low=1.25,
        close=2.0,
        volume=10.001,
        quote_volume=17.5,
        trades=12,
        taker_buy_volume=4.0,
        taker_buy_quote_volume=7.0,
        first_trade_id=100,
        last_trade_id=111,
        is_closed=is_closed,
        event_time=event_time,
        version=version_of(event_time, open_time + MINUTE_MS - 1, is_closed=is_closed),
        source="stream",
    )


def published_to(send: trio.MemorySendChannel[list[Kline]]) -> Publish:
    """Publish rows to a channel, without their frames."""

    async def publish(rows: list[Kline], _frames: Sequence[bytes] = (), /) -> None:
        await send.send(rows)

    return publish
