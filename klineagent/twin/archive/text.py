"""The CSV of a file, in the shape that the archive has at its place and time. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

from klineagent.twin.archive.key import TwinFile
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.market import Listing

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
_HEADER_SINCE = {"usdm": date(2022, 6, 1), "coinm": date(2023, 10, 1), "spot": date.max}
_VOLUMES = (5, 7, 9, 10)
_MICROSECONDS_SINCE = {"spot": date(2025, 1, 1)}


class FileRow(NamedTuple):
    """A row of a file before it is text: a candle, and the close time to write."""

    candle: Candle
    close_ms: int


def has_header(file: TwinFile) -> bool:
    """Whether files of this kind and time begin with a header."""
    return file.first_day >= _HEADER_SINCE[file.venue_name]


def has_microseconds(file: TwinFile) -> bool:
    """Whether files of this kind and time count microseconds."""
    return file.first_day >= _MICROSECONDS_SINCE.get(file.venue_name, date.max)


def lines_of(
    file: TwinFile, listing: Listing, rows: Iterable[FileRow], *, microseconds: bool
) -> str:
    """The lines of `rows`; numbers have the decimal places that REST prints."""
    price, quantity, quote = listing.price_places, listing.quantity_places, listing.quote_places
    first, last = ("000", "999") if microseconds else ("", "")
    # One formatting a line: a month has 44,640 of them, and clients want years.
    volumes = f"{_number(quantity)},", f"{_number(quote)},"
    line = (
        f"%d{first}," + f"{_number(price)}," * 4 + f"{volumes[0]}%d{last},{volumes[1]}%d,"
        f"{volumes[0]}{volumes[1]}0\n"
    )
    prices, quantities, quotes = 10**price, 10**quantity, 10**quote
    lines = (
        line
        % (
            *(each.open_time, each.open // prices, each.open % prices),
            *(each.high // prices, each.high % prices, each.low // prices, each.low % prices),
            *(each.close // prices, each.close % prices),
            *(each.volume // quantities, each.volume % quantities, close_ms),
            *(each.quote_volume // quotes, each.quote_volume % quotes, each.trades),
            *(each.taker_volume // quantities, each.taker_volume % quantities),
            *(each.taker_quote_volume // quotes, each.taker_quote_volume % quotes),
        )
        for each, close_ms in rows
    )
    if file.venue_name == "spot":
        return "".join(lines)
    # Where any volume is zero, the last one is.
    zero = f",{_number(quote) % (0, 0)},0\n"
    return "".join(_with_plain_zeros(each) if each.endswith(zero) else each for each in lines)


def _with_plain_zeros(line: str) -> str:
    """Write volumes of zero without decimal places, as futures have them."""
    fields = line.split(",")
    for place in _VOLUMES:
        if not fields[place].strip("0."):
            fields[place] = "0"
    return ",".join(fields)


def _number(places: int) -> str:
    """The format of a whole number and a fraction, which is dropped without decimal places."""
    return f"%d.%0{places}d" if places else "%d%.0s"
