"""Reading REST answers element by element: invalid elements are left out, others kept."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from sys import intern
from typing import Annotated, Any, Protocol

import msgspec
import trio
from attrs import frozen
from msgspec import Meta

from klineagent.core.errors import UNREADABLE, BadFrame, ExchangeRefused
from klineagent.exchange.venues import Venue
from klineagent.exchange.wire import RestCandle

# Milliseconds have 13 digits from 2001 to 2286, seconds fewer and microseconds more.
LEAST_MS, MOST_MS = 10**12, 10**13
# Spot's list is 17 MB since 2026, and reading all of it would hold everything else up for 50 ms. A
# part takes 2 ms.
PART_BYTES = 500_000
_SYMBOLS, _NEXT_SYMBOL = b'"symbols":[', b',{"symbol":'
# The wire's decimals are rounded one by one, and their sums are floats here.
_ROUNDING = 1e-9
# A float has no more significant decimals.
_MOST_PLACES = 17


@frozen(kw_only=True)
class SymbolInfo:
    """One symbol of the venue, as in exchangeInfo."""

    symbol: str
    status: str
    is_trading: bool
    is_listed: bool
    """Whether it trades or is halted; False before its listing and after its delisting."""
    base: str = ""
    quote: str = ""
    contract: str = ""
    """PERPETUAL, CURRENT_QUARTER, ...; empty on spot."""
    onboard_ms: int = 0
    """When it was listed, in milliseconds; 0 if the venue does not say."""
    price_places: int | None = None
    """The decimals with which the exchange writes prices in klines; None where it is unknown."""
    quantity_places: int | None = None
    """The decimals of volumes, likewise. Quote volumes have as many as both together."""


@frozen
class SymbolList:
    """The symbols of an exchangeInfo answer."""

    symbols: dict[str, SymbolInfo]
    odd: int = 0
    """How many elements were left out."""
    odd_names: frozenset[str] = frozenset()
    """The names of the symbols that were left out, as far as they could be read."""


@frozen
class Rows:
    """The candles of a klines answer."""

    candles: list[RestCandle]
    odd: int = 0
    """How many rows were left out."""


class _Named(msgspec.Struct):
    symbol: Annotated[str, Meta(min_length=1, max_length=64)]


class _Symbol(_Named):
    status: str = ""
    contractStatus: str = ""  # noqa: N815 - the wire's name, on COIN-M
    baseAsset: str = ""  # noqa: N815 - the wire's name
    quoteAsset: str = ""  # noqa: N815 - the wire's name
    contractType: str = ""  # noqa: N815 - the wire's name, on futures
    onboardDate: Any = 0  # noqa: N815 - the wire's name, on futures
    pricePrecision: Any = None  # noqa: N815 - likewise
    quantityPrecision: Any = None  # noqa: N815 - likewise


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


class _RawExchangeInfo(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _ServerTime(msgspec.Struct):
    serverTime: Annotated[int, Meta(ge=LEAST_MS, lt=MOST_MS)]  # noqa: N815 - the wire's name


_decode_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode
_decode_raw_exchange_info = msgspec.json.Decoder(_RawExchangeInfo).decode
_decode_symbol = msgspec.json.Decoder(_Symbol).decode
_decode_name = msgspec.json.Decoder(_Named).decode
_decode_server_time = msgspec.json.Decoder(_ServerTime).decode
_decode_rows = msgspec.json.Decoder(list[RestCandle], strict=False).decode
_decode_raw_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_row = msgspec.json.Decoder(RestCandle, strict=False).decode


def read_server_time(body: bytes) -> int:
    """Read the time in an answer, in milliseconds.

    Raises:
        BadFrame: the answer holds no time, or one in another unit.
    """
    try:
        return _decode_server_time(body).serverTime
    except UNREADABLE as error:
        raise BadFrame(f"the exchange's time cannot be read: {error}") from error


async def read_exchange_info(body: bytes, venue: Venue) -> SymbolList:
    """Read the symbols in an exchangeInfo answer of `venue`, some hundred between checkpoints.

    Raises:
        ExchangeRefused: the answer is no list of symbols, or none of its elements can be read.
    """
    try:
        return await _read_parts(parts_of(body), venue)
    except ExchangeRefused:  # perhaps it was cut within an element
        return await _read_parts([body], venue)


async def _read_parts(parts: Iterable[bytes], venue: Venue) -> SymbolList:
    infos: dict[str, SymbolInfo | None] = {}
    odd: list[msgspec.Raw] = []
    for part in parts:
        readable, unreadable = _read_symbols(part)
        infos |= {each.symbol: _info_of(each, venue) for each in readable}
        odd += unreadable
        await trio.lowlevel.checkpoint()
    symbols = {name: info for name, info in infos.items() if info is not None}
    if not symbols:
        raise ExchangeRefused("exchangeInfo lists no symbol that can be read")
    names = {name for each in odd if (name := _name_of(each)) is not None} | infos.keys()
    odd_names = frozenset(names - symbols.keys())
    return SymbolList(symbols, len(odd) + len(infos) - len(symbols), odd_names)


def parts_of(body: bytes) -> Iterator[bytes]:
    """Cut an answer into several with some of its symbols each, the first with all but symbols.

    Where each can be read, each cut is between two elements of the list; where one cannot, the
    answer is written otherwise than the exchange does, or it is none.
    """
    begin = body.find(_SYMBOLS) + len(_SYMBOLS)
    yield body[:begin] + b"]}"
    while (end := body.find(_NEXT_SYMBOL, begin + PART_BYTES)) != -1:
        yield b"{" + _SYMBOLS + body[begin:end] + b"]}"
        begin = end + 1
    yield b"{" + _SYMBOLS + body[begin:]


def _read_symbols(body: bytes) -> tuple[list[_Symbol], list[msgspec.Raw]]:
    """Return the symbols that can be read, and the raw elements that cannot."""
    try:
        return _decode_exchange_info(body).symbols, []
    except UNREADABLE:
        pass
    try:
        elements = _decode_raw_exchange_info(body).symbols
    except UNREADABLE as error:
        raise ExchangeRefused(f"exchangeInfo cannot be read: {error}") from error
    readable: list[_Symbol] = []
    odd: list[msgspec.Raw] = []
    for element in elements:
        try:
            readable.append(_decode_symbol(element))
        except UNREADABLE:
            odd.append(element)
    return readable, odd


def _name_of(element: msgspec.Raw) -> str | None:
    try:
        return _decode_name(element).symbol
    except UNREADABLE:
        return None


def _places_of(precision: Any, venue: Venue) -> int | None:
    if venue.kline_places is not None:
        return venue.kline_places
    return precision if type(precision) is int and 0 <= precision <= _MOST_PLACES else None


def _info_of(symbol: _Symbol, venue: Venue) -> SymbolInfo | None:
    """Convert `symbol`; None if its status is missing."""
    status = getattr(symbol, venue.status_field)
    if not status:
        return None
    onboard = symbol.onboardDate
    return SymbolInfo(
        symbol=symbol.symbol,
        # Interned: the same few words for a thousand symbols, and anew each minute.
        status=intern(status),
        is_trading=status in venue.trading_statuses,
        is_listed=status not in venue.unlisted_statuses,
        base=symbol.baseAsset,
        quote=intern(symbol.quoteAsset),
        # "CURRENT_QUARTER DELIVERING" is a CURRENT_QUARTER in its last hour.
        contract=intern(symbol.contractType.partition(" ")[0]),
        onboard_ms=onboard if type(onboard) is int and LEAST_MS <= onboard < MOST_MS else 0,
        price_places=_places_of(symbol.pricePrecision, venue),
        quantity_places=_places_of(symbol.quantityPrecision, venue),
    )


def read_candles(body: bytes) -> Rows:
    """Read the rows of a klines answer, in their order.

    Raises:
        BadFrame: the answer is no list.
    """
    odd = 0
    try:
        readable = _decode_rows(body)
    except UNREADABLE:
        readable, odd = _read_rows_singly(body)
    at: defaultdict[int, list[RestCandle]] = defaultdict(list)
    for candle in readable:
        if not is_candle(candle):
            odd += 1
        elif candle not in at[candle.open_time]:
            at[candle.open_time].append(candle)
    # If two rows of one open time differ, it is not known which is right.
    candles = [same[0] for same in at.values() if len(same) == 1]
    return Rows(candles, odd + sum(len(same) for same in at.values() if len(same) > 1))


def _read_rows_singly(body: bytes) -> tuple[list[RestCandle], int]:
    """Return the rows that can be read, and the number of those that cannot."""
    try:
        elements = _decode_raw_rows(body)
    except UNREADABLE as error:
        raise BadFrame(f"no klines: {error}") from error
    readable: list[RestCandle] = []
    for element in elements:
        try:
            readable.append(_decode_row(element))
        except UNREADABLE:
            continue
    return readable, len(elements) - len(readable)


class CandleNumbers(Protocol):
    """The numbers of a candle, wherever they come from."""

    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    taker_buy_volume: float
    taker_buy_quote_volume: float


def is_candle(row: CandleNumbers) -> bool:
    """Whether the numbers of `row` can be those of a candle; msgspec reads "inf" and "nan"."""
    prices = row.open + row.high + row.low + row.close
    bought = row.taker_buy_volume + row.taker_buy_quote_volume
    return (
        math.isfinite(prices + row.volume + row.quote_volume + bought)
        and 0 <= row.low <= min(row.open, row.close)
        and max(row.open, row.close) <= row.high
        and 0 <= row.taker_buy_volume <= _rounded_up(row.volume)
        and 0 <= row.taker_buy_quote_volume <= _rounded_up(row.quote_volume)
        and row.open_time < row.close_time
    )


def _rounded_up(volume: float) -> float:
    return volume * (1 + _ROUNDING) + _ROUNDING
