"""Klines (candlesticks): each is one state of one candle; the states of a candle are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Key = tuple[str, str, str, int]
"""The key of a candle: venue, symbol, interval, open time."""


SeriesName = tuple[str, str, str]
"""Venue, symbol and interval: the first fields of a `Kline`."""


class Kline(NamedTuple):
    """One state of one candle; the fields are the columns of table `klines`, in their order.

    Times are integer milliseconds since the epoch by the exchange's clock. On COIN-M, `volume`
    counts contracts and `quote_volume` is in the base asset. Trade ids are -1 if there was no trade
    or the source (REST, archive) has no ids. `version` ranks the states of a candle, see
    `version_of`. `source` is `stream`, `rest`, `archive`, `repair` or `unknown`.
    """

    venue: str
    symbol: str
    interval: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int
    taker_buy_volume: float
    taker_buy_quote_volume: float
    first_trade_id: int
    last_trade_id: int
    is_closed: bool
    event_time: int
    version: int
    source: str = "unknown"

    @property
    def key(self) -> Key:
        """The key of the candle: klines with equal keys are states of the same candle."""
        return self[:4]

    @property
    def rank_to_exceed(self) -> int:
        """The version that this row must exceed when it is fetched again: its own if a repair."""
        return self.version if self.source == "repair" else 0

    def as_repair(self, answered_at_ms: int, *, above_version: int) -> Kline:
        """Return this closed candle as a repair that outranks a wrong stored row."""
        event_time = max(answered_at_ms, (above_version >> 1) + 1)
        version = version_of(event_time, self.close_time, is_closed=True)
        return self._replace(event_time=event_time, version=version, source="repair")


class Publish(Protocol):
    """Hands klines to all subscribers and returns when the writer has them."""

    async def __call__(self, klines: list[Kline], frames: Sequence[bytes] = (), /) -> None:
        """Hand on `klines` and, unless they were fetched, the frame in which each of them came."""


def version_of(event_time_ms: int, close_time_ms: int, *, is_closed: bool) -> int:
    """Return the rank of a state among those of its candle; the highest counts.

    Every closed state ranks above every forming one: a forming state with an event time after the
    close ranks as one at the close. Among closed states, as among forming ones, the newest wins.
    The first agents doubled the event time of any state and added 1 for closed ones; their rows
    keep their order against these.
    """
    if is_closed:
        return max(event_time_ms, close_time_ms + 1) << 1 | 1
    return min(event_time_ms << 1, close_time_ms << 1 | 1)


def event_time_of(version: int) -> int:
    """Return the event time of a state by its rank.

    That of a forming state is at most its close, and that of a closed one is after it.
    """
    return version >> 1


def least_version(close_time_ms: int) -> int:
    """Return the lowest rank of a closed state: fetched rows have it, below all streamed ones."""
    return close_time_ms + 1 << 1
