"""The CSV of a file, in the shape that the archive has at its place and time. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

from klineagent.twin.archive.key import TwinFile
from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.candle import Candle, to_text
from klineagent.twin.market.market import Listing

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
_HEADER_SINCE = {"usdm": date(2022, 6, 1), "coinm": date(2023, 10, 1), "spot": date.max}
_MICROSECONDS_SINCE = {"spot": date(2025, 1, 1)}


class FileRow(NamedTuple):
    """A row of a file before it is text: a candle, and the close time that is told of it."""

    candle: Candle
    close_ms: int


def rows_of(interval: TwinInterval, candles: Iterable[Candle]) -> list[FileRow]:
    """The true rows of candles."""
    close_of = interval.close_of
    return [FileRow(candle, close_of(candle.open_time)) for candle in candles]


def has_header(key: TwinFile) -> bool:
    """Whether files of this kind and time begin with a header."""
    return key.first_day >= _HEADER_SINCE[key.venue_name]


def in_microseconds(key: TwinFile) -> bool:
    """Whether files of this kind and time count microseconds."""
    return key.first_day >= _MICROSECONDS_SINCE.get(key.venue_name, date.max)


def text_of(listing: Listing, rows: Iterable[FileRow], *, microseconds: bool) -> str:
    """The lines of `rows`; numbers have the decimal places that REST prints."""
    prices, quantities, quotes = listing.price_places, listing.quantity_places, listing.quote_places
    first, last = ("000", "999") if microseconds else ("", "")
    return "".join(
        f"{candle.open_time}{first},{to_text(candle.open, prices)},{to_text(candle.high, prices)},"
        f"{to_text(candle.low, prices)},{to_text(candle.close, prices)},"
        f"{to_text(candle.volume, quantities)},{close_ms}{last},"
        f"{to_text(candle.quote_volume, quotes)},{candle.trades},"
        f"{to_text(candle.taker_volume, quantities)},"
        f"{to_text(candle.taker_quote_volume, quotes)},0\n"
        for candle, close_ms in rows
    )
