"""The twin's wire format: a candle as stream event and as REST row, frames of bytes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import msgspec
from attrs import define, field, frozen

from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.candle import Candle, to_text
from klineagent.twin.market.market import Listing

_encode = msgspec.json.encode
# First bytes of websocket frames: the highest bit marks the last fragment of a message.
_TEXT, _TEXT_BEGINS, _CONTINUES, _CONTINUATION_ENDS, _PING = 0x81, 0x01, 0x00, 0x80, 0x89
# From these payload sizes on the length is encoded in two bytes, or in eight.
_MEDIUM, _LARGE = 126, 65_536


@frozen
class Series:
    """A listing at an interval: what one stream is about."""

    listing: Listing
    interval: TwinInterval
    stream: str = field(init=False)
    """The name of its stream."""

    named: str = field(init=False)
    """Its symbol and interval as JSON members of every event; nothing in them needs escaping."""

    @stream.default
    def _name(self) -> str:
        return f"{self.listing.stream_symbol}@kline_{self.interval}"

    @named.default
    def _name_in_candles(self) -> str:
        return f'"s":"{self.listing.symbol}","i":"{self.interval}"'


@define
class StreamEvent:
    """One event of a stream, encoded once for all clients; `payload` is its JSON."""

    stream: str
    payload: bytes
    event_ms: int
    is_closing: bool = False
    is_bare: bool = False
    """Whether it is never wrapped in the envelope of combined streams."""
    frame: Callable[[bytes], bytes] | None = None
    """Makes frames of its text, if it is not to be a single frame."""
    _raw: bytes | None = field(init=False, default=None)
    _combined: bytes | None = field(init=False, default=None)

    def text(self, *, combined: bool) -> bytes:
        """The event's JSON, in the envelope of combined streams if `combined`."""
        if combined and not self.is_bare:
            return b'{"stream":"%b","data":%b}' % (self.stream.encode(), self.payload)
        return self.payload

    def framed(self, *, combined: bool) -> bytes:
        """The same text as websocket frames."""
        if combined:
            if self._combined is None:
                self._combined = (self.frame or frame_of)(self.text(combined=True))
            return self._combined
        if self._raw is None:
            self._raw = (self.frame or frame_of)(self.payload)
        return self._raw


def frame_of(text: bytes) -> bytes:
    """Make a text frame of `text`, which is UTF-8."""
    # Server frames are not masked and, here, not compressed, so all clients can share them.
    return _head(_TEXT, len(text)) + text


def fragments_of(text: bytes, *, cuts: tuple[int, ...], ping: bytes | None) -> bytes:
    """Make frames of `text` in fragments, cut at ascending places; a ping may follow the first."""
    edges = (0, *cuts, len(text))
    pieces = [text[start:end] for start, end in pairwise(edges)]
    last = len(pieces) - 1
    frames = []
    for number, piece in enumerate(pieces):
        first_byte = _CONTINUES if number else _TEXT_BEGINS
        if number == last:
            first_byte = _CONTINUATION_ENDS if number else _TEXT
        frames.append(_head(first_byte, len(piece)) + piece)
        if ping is not None and number == 0 < last:
            frames.append(_head(_PING, len(ping)) + ping)
    return b"".join(frames)


def _head(first_byte: int, size: int) -> bytes:
    if size < _MEDIUM:
        return bytes((first_byte, size))
    if size < _LARGE:
        return struct.pack(">BBH", first_byte, _MEDIUM, size)
    return struct.pack(">BBQ", first_byte, _MEDIUM + 1, size)


def kline_event(series: Series, candle: Candle, event_ms: int, *, is_closed: bool) -> StreamEvent:
    """Make the event of a candle's state at `event_ms`, with keys in the exchange's order."""
    listing = series.listing
    prices, quantities, quotes = listing.price_places, listing.quantity_places, listing.quote_places
    payload = (
        f'{{"e":"kline","E":{event_ms},"s":"{listing.symbol}","k":{{'
        f'"t":{candle.open_time},"T":{series.interval.close_of(candle.open_time)},'
        f"{series.named},"
        f'"f":{candle.first_trade},"L":{candle.last_trade},'
        f'"o":"{to_text(candle.open, prices)}","c":"{to_text(candle.close, prices)}",'
        f'"h":"{to_text(candle.high, prices)}","l":"{to_text(candle.low, prices)}",'
        f'"v":"{to_text(candle.volume, quantities)}","n":{candle.trades},'
        f'"x":{"true" if is_closed else "false"},'
        f'"q":"{to_text(candle.quote_volume, quotes)}",'
        f'"V":"{to_text(candle.taker_volume, quantities)}",'
        f'"Q":"{to_text(candle.taker_quote_volume, quotes)}","B":"0"}}}}'
    )
    return StreamEvent(series.stream, payload.encode(), event_ms, is_closing=is_closed)


def shutdown_event(event_ms: int) -> StreamEvent:
    """Make the notice that the server is about to stop."""
    notice = _encode({"e": "serverShutdown", "E": event_ms})
    return StreamEvent("!serverShutdown", notice, event_ms)


def sdk_shutdown_event(event_ms: int) -> StreamEvent:
    """Make the same notice in the shape that the exchange's SDK expects."""
    notice = _encode({"event": {"e": "serverShutdown", "E": event_ms}})
    return StreamEvent("!serverShutdown", notice, event_ms, is_bare=True)


def kline_row(series: Series, candle: Candle) -> list[int | str]:
    """Make the row of a candle in a klines answer: twelve fields."""
    listing = series.listing
    prices, quantities, quotes = listing.price_places, listing.quantity_places, listing.quote_places
    return [
        candle.open_time,
        to_text(candle.open, prices),
        to_text(candle.high, prices),
        to_text(candle.low, prices),
        to_text(candle.close, prices),
        to_text(candle.volume, quantities),
        series.interval.close_of(candle.open_time),
        to_text(candle.quote_volume, quotes),
        candle.trades,
        to_text(candle.taker_volume, quantities),
        to_text(candle.taker_quote_volume, quotes),
        "0",
    ]
