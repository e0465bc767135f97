"""Klines for the tests of storage."""

from __future__ import annotations

from klineagent.core.interval import MINUTE_MS, Interval
from klineagent.core.kline import Kline, least_version, version_of

FIRST_OPEN = 1_769_904_000_000  # 2026-02-01


def sample(minute: int = 0, interval: str = "1m", **changes: object) -> Kline:
    """A closed candle that opened `minute` minutes after the first."""
    opened = FIRST_OPEN + minute * MINUTE_MS
    closed = Interval(interval).close_of(opened)
    kline = Kline(
        venue="usdm",
        symbol="BTCUSDT",
        interval=interval,
        open_time=opened,
        close_time=closed,
        open=69_000.1,
        high=69_100.2,
        low=68_900.3,
        close=69_050.4,
        volume=12.345,
        quote_volume=851_000.123456,
        trades=321,
        taker_buy_volume=6.1,
        taker_buy_quote_volume=425_000.5,
        first_trade_id=1_000,
        last_trade_id=1_320,
        is_closed=True,
        event_time=closed + 7,
        version=version_of(closed + 7, closed, is_closed=True),
        source="stream",
    )
    return kline._replace(**changes)  # type: ignore[arg-type]  # named fields of any type


def fetched_candle(minute: int = 0) -> Kline:
    """A closed candle as REST returns it."""
    closed = sample(minute).close_time
    return sample(
        minute,
        first_trade_id=-1,
        last_trade_id=-1,
        event_time=closed + 1,
        version=least_version(closed),
        source="rest",
    )


def update(minute: int, event: int, *, is_closed: bool = False) -> Kline:
    """The state of a candle `event` ms after its open; its values identify it."""
    at = FIRST_OPEN + minute * MINUTE_MS + event
    return sample(
        minute,
        close=float(event),
        trades=event,
        is_closed=is_closed,
        event_time=at,
        version=version_of(at, FIRST_OPEN + (minute + 1) * MINUTE_MS - 1, is_closed=is_closed),
    )
