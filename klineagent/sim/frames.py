"""What the twin says of a candle: the stream's event and the REST row. Pure."""

from __future__ import annotations

import msgspec
from attrs import define, frozen
from wsproto.frame_protocol import FrameProtocol

from klineagent.kline import Interval
from klineagent.sim.candle import Candle, to_text
from klineagent.sim.market import Listing

_encode = msgspec.json.encode
# Frames of a server are neither masked nor, here, compressed, so one framer serves every socket.
_framer = FrameProtocol(client=False, extensions=[])


@frozen
class Series:
    """One stream's subject."""

    listing: Listing
    interval: Interval

    @property
    def stream(self) -> str:
        """The one name under which it is delivered."""
        return f"{self.listing.stream_symbol}@kline_{self.interval}"


@define
class StreamEvent:
    """One event of one stream, encoded once for all who listen; `payload` is its JSON."""

    stream: str
    payload: bytes
    _raw: bytes | None = None
    _combined: bytes | None = None

    def framed(self, *, combined: bool) -> bytes:
        """The WebSocket frame: the bare event, or in the envelope of combined streams."""
        if combined:
            if self._combined is None:
                self._combined = frame_of(
                    b'{"stream":%b,"data":%b}' % (_encode(self.stream), self.payload)
                )
            return self._combined
        if self._raw is None:
            self._raw = frame_of(self.payload)
        return self._raw


def frame_of(text: bytes) -> bytes:
    """A text frame holding `text`, which is UTF-8."""
    return bytes(_framer.send_data(text.decode()))


def kline_event(series: Series, candle: Candle, event_ms: int, *, is_closed: bool) -> StreamEvent:
    """The event of a candle's state at `event_ms`, keys in the exchange's order."""
    listing = series.listing
    prices, quantities, quotes = listing.price_places, listing.quantity_places, listing.quote_places
    payload = {
        "e": "kline",
        "E": event_ms,
        "s": listing.symbol,
        "k": {
            "t": candle.open_time,
            "T": series.interval.close_of(candle.open_time),
            "s": listing.symbol,
            "i": series.interval.value,
            "f": candle.first_trade,
            "L": candle.last_trade,
            "o": to_text(candle.open, prices),
            "c": to_text(candle.close, prices),
            "h": to_text(candle.high, prices),
            "l": to_text(candle.low, prices),
            "v": to_text(candle.volume, quantities),
            "n": candle.trades,
            "x": is_closed,
            "q": to_text(candle.quote_volume, quotes),
            "V": to_text(candle.taker_volume, quantities),
            "Q": to_text(candle.taker_quote_volume, quotes),
            "B": "0",
        },
    }
    return StreamEvent(series.stream, _encode(payload))


def shutdown_event(event_ms: int) -> StreamEvent:
    """The notice that the server is about to stop."""
    return StreamEvent("!serverShutdown", _encode({"e": "serverShutdown", "E": event_ms}))


def kline_row(series: Series, candle: Candle) -> list[int | str]:
    """The twelve fields of a klines answer."""
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
