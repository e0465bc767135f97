"""Kline events as clients get them: the exchange's own text, or ours in the same form. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from attrs import define, field, frozen

from klineagent.core.kline import Kline
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.exchange.venues import VENUES, Venue
from klineagent.exchange.wire import beginning_of
from klineagent.reading.rows import LONG_FROM, NumberFormats, with_shortest_numbers

# First bytes of a text frame that is a whole message; from these sizes on the length takes more.
_TEXT, _MEDIUM, _LARGE = 0x81, 126, 65_536


class Form(NamedTuple):
    """In which of four forms a listener gets the events of a series."""

    is_continuous: bool
    is_combined: bool


@frozen
class EventFormat:
    """The text of events of one symbol, with as many decimals as the exchange writes."""

    _candle: str

    @classmethod
    def of(cls, info: SymbolInfo | None, venue: Venue) -> EventFormat:
        """Make the format of a symbol; with unknown decimals numbers are as short as can be."""
        numbers = NumberFormats.of(info, venue)
        price, quantity, quote = numbers.price, numbers.quantity, numbers.quote
        return cls(
            f'"i":"%s","f":%d,"L":%d,"o":"{price}","c":"{price}","h":"{price}","l":"{price}",'
            f'"v":"{quantity}","n":%d,"x":%s,"q":"{quote}","V":"{quantity}","Q":"{quote}","B":"0"'
        )

    def text(self, kline: Kline, *, is_continuous: bool) -> bytes:
        """Write one event."""
        candle = self._candle % (
            kline.interval,
            kline.first_trade_id,
            kline.last_trade_id,
            kline.open,
            kline.close,
            kline.high,
            kline.low,
            kline.volume,
            kline.trades,
            "true" if kline.is_closed else "false",
            kline.quote_volume,
            kline.taker_buy_volume,
            kline.taker_buy_quote_volume,
        )
        if kline.volume >= LONG_FROM or kline.quote_volume >= LONG_FROM:
            candle = with_shortest_numbers(candle)
        times = f'"t":{kline.open_time},"T":{kline.close_time}'
        if is_continuous:
            pair = _pair(kline)
            event = f'"e":"continuous_kline","E":{kline.event_time},"ps":"{pair}","ct":"PERPETUAL"'
            return f'{{{event},"k":{{{times},{candle}}}}}'.encode()
        event = f'"e":"kline","E":{kline.event_time},"s":"{kline.symbol}"'
        return f'{{{event},"k":{{{times},"s":"{kline.symbol}",{candle}}}}}'.encode()


def stream_name_of(kline: Kline, *, is_continuous: bool) -> str:
    """Return the name of the stream in which a state of a candle comes."""
    if is_continuous:
        return f"{_pair(kline).lower()}_perpetual@continuousKline_{kline.interval}"
    return f"{kline.symbol.lower()}@kline_{kline.interval}"


def _pair(kline: Kline) -> str:
    return kline.symbol.removesuffix(VENUES[kline.venue].perpetual_suffix or "")


@define(eq=False)
class CandleEvent:
    """A state of a candle for all who listen; each form is encoded once."""

    kline: Kline
    _frame: bytes | None
    """What the exchange sent, in the envelope of combined streams; None if it was fetched."""
    _format: Callable[[Kline], EventFormat] = field(repr=False)
    _framed: dict[Form, bytes] = field(factory=dict, init=False, repr=False)

    @property
    def open_ms(self) -> int:
        """The open time of the candle."""
        return self.kline.open_time

    @property
    def is_closing(self) -> bool:
        """Whether the candle is closed."""
        return self.kline.is_closed

    def framed(self, form: Form) -> bytes:
        """Return a websocket frame with the event in `form`."""
        if (framed := self._framed.get(form)) is None:
            framed = self._framed[form] = framed_text(self._text(form))
        return framed

    def _text(self, form: Form) -> bytes:
        kline = self.kline
        name = stream_name_of(kline, is_continuous=form.is_continuous)
        before = beginning_of(name) + b',"data":'
        frame = b"" if form.is_continuous else self._frame or b""
        # A frame that is written in another way is as good; only it cannot be taken apart.
        if frame.startswith(before) and frame.endswith(b"}}}"):
            return frame if form.is_combined else frame[len(before) : -1]
        text = self._format(kline).text(kline, is_continuous=form.is_continuous)
        return before + text + b"}" if form.is_combined else text


def framed_text(text: bytes) -> bytes:
    """Make a websocket frame of UTF-8 text, unmasked and uncompressed: all clients can share it."""
    size = len(text)
    if size < _MEDIUM:
        return bytes((_TEXT, size)) + text
    if size < _LARGE:
        return struct.pack(">BBH", _TEXT, _MEDIUM, size) + text
    return struct.pack(">BBQ", _TEXT, _MEDIUM + 1, size) + text
