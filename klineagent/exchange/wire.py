"""The wire format: frames and REST rows to klines and responses, requests to frames. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from attrs import frozen
from msgspec import Meta, Struct

from klineagent.core.errors import UNREADABLE, BadFrame
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline, least_version, version_of

# The bounds of a store's columns: a frame beyond them is rejected here, not by the store later.
_Millis = Annotated[int, Meta(ge=0, lt=10_000_000_000_000)]  # until 2286, DateTime64(3)'s end
_Count = Annotated[int, Meta(ge=0, lt=2**32)]
NO_TRADE_ID = -1
_TradeId = Annotated[int, Meta(ge=NO_TRADE_ID, le=2**63 - 1)]


class _Candle(Struct, gc=False):
    """The `k` object of a kline event; numbers arrive as strings, unknown fields are ignored."""

    t: _Millis
    T: _Millis
    s: str
    i: str
    f: _TradeId
    L: _TradeId
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the wire's name
    v: float
    n: _Count
    x: object
    """Must be a bool. A field typed bool would also accept the strings "true" and "1", because
    numbers are read from strings."""
    q: float
    V: float
    Q: float


class RestCandle(Struct, array_like=True):
    """A row of a klines answer. It does not say whether the candle is closed."""

    open_time: _Millis
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_time: _Millis
    quote_volume: float
    trades: _Count
    taker_buy_volume: float
    taker_buy_quote_volume: float

    def as_closed(self, venue: str, symbol: str, interval: Interval) -> Kline:
        """Convert to the row of a closed candle; a closing event that comes late outranks it."""
        # Events of a candle that was cut short carry the close time it should have had.
        regular_close_ms = interval.close_of(self.open_time)
        return Kline(
            venue,
            symbol,
            interval.value,
            self.open_time,
            self.close_time,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.quote_volume,
            self.trades,
            self.taker_buy_volume,
            self.taker_buy_quote_volume,
            NO_TRADE_ID,
            NO_TRADE_ID,
            True,
            self.close_time + 1,
            least_version(max(self.close_time, regular_close_ms)),
            "rest",
        )


class KlineEvent(Struct, gc=False):
    """A state of a candle, as it came on a stream.

    Millions of them come and go, so they are exempt from garbage collection: they hold no cycles.
    """

    e: Literal["kline"]
    E: _Millis
    s: str
    k: _Candle

    def as_kline(self, venue: str) -> Kline:
        """Convert to a row; check the event with `regularity.flaw_of` first."""
        k = self.k
        is_closed = k.x is True
        return Kline(
            venue,
            k.s,
            k.i,
            k.t,
            k.T,
            k.o,
            k.h,
            k.l,
            k.c,
            k.v,
            k.q,
            k.n,
            k.V,
            k.Q,
            k.f,
            k.L,
            is_closed,
            self.E,
            version_of(self.E, k.T, is_closed=is_closed),
            "stream",
        )


class StreamedCandle(Struct, gc=False):
    """A kline event, and the name of the stream on which it came."""

    stream: str
    data: KlineEvent


@frozen
class SubscriptionResponse:
    """The exchange's response to a request; `error` is the reason of a refusal."""

    request_id: int | None
    error: str | None = None


@frozen
class OtherEvent:
    """A valid frame that is no kline: another event type, or a shutdown notice."""

    kind: str


Message = StreamedCandle | SubscriptionResponse | OtherEvent

# The exact bytes of frames on a `/stream` socket; see "WebSocket market streams" in the docs.
# Frames that look otherwise are decoded at once, which is only slower.
_BEGINS, _ENDS = b'{"stream":"', b'"'
_FORMING = b'"x":false'

_candles = msgspec.json.Decoder(StreamedCandle, strict=False)
_decode_anything = msgspec.json.Decoder().decode


def stream_name(symbol: str, interval: Interval) -> str:
    """Return the name of a kline stream: the symbol in lower case, the interval as it is."""
    return f"{symbol.lower()}@kline_{interval.value}"


def subscribe_request(names: list[str], request_id: int) -> str:
    """Write a SUBSCRIBE for `names`; the exchange acknowledges unknown names as well."""
    return _request("SUBSCRIBE", names, request_id)


def unsubscribe_request(names: list[str], request_id: int) -> str:
    """Write an UNSUBSCRIBE for `names`."""
    return _request("UNSUBSCRIBE", names, request_id)


def _request(method: str, names: list[str], request_id: int) -> str:
    request = {"method": method, "params": names, "id": request_id}
    return msgspec.json.encode(request).decode()


def are_forming(frames: list[bytes]) -> bool:
    """Whether all `frames` are certainly kline events of forming candles."""
    # One search over all frames, because each holds the mark once. If a frame is written in another
    # way the mark is not found, and the caller decodes all of them.
    return b"".join(frames).count(_FORMING) == len(frames)


def newest_of(frames: list[bytes]) -> dict[bytes, bytes]:
    """Return the last of `frames` of each stream, by the bytes that its frames begin with.

    Raises:
        BadFrame: a frame does not begin as the exchange's frames do.
    """
    newest = {frame.partition(b",")[0]: frame for frame in frames}
    # No beginning holds a comma, so each joint of two has exactly one end and one beginning.
    # Backslashes are refused: with escapes one name can be written in several ways.
    beginnings = b",".join((_ENDS, *newest, _BEGINS))
    if beginnings.count(_ENDS + b"," + _BEGINS) != len(newest) + 1 or b"\\" in beginnings:
        raise BadFrame("not all frames begin with the name of their stream")
    return newest


def beginning_of(stream: str) -> bytes:
    """Return the bytes that frames of `stream` begin with."""
    return _BEGINS + stream.encode() + _ENDS


def decode_streamed(frames: list[bytes]) -> list[StreamedCandle]:
    """Decode kline events, all at once.

    Raises:
        BadFrame: one of the frames is no kline event.
    """
    try:
        return [*map(_candles.decode, frames)]
    except UNREADABLE as error:
        raise BadFrame(f"not all are kline events: {error}") from error


def decode_frame(frame: str | bytes) -> Message:
    """Decode one frame of a `/stream` socket.

    Raises:
        BadFrame: the frame is not JSON, or fields are missing.
    """
    try:
        return _candles.decode(frame)
    except UNREADABLE as error:
        return _decode_unusual(frame, error)


def _decode_unusual(
    frame: str | bytes, kline_error: Exception
) -> SubscriptionResponse | OtherEvent:
    """Decode a frame that is no kline event for the reason `kline_error`."""
    try:
        message = _decode_anything(frame)
    except UNREADABLE as error:
        raise BadFrame(f"not JSON: {error}") from error
    match message:
        case {"result": _, "id": int() | None as request_id}:
            return SubscriptionResponse(request_id)
        # Two shapes of refusal: nested is seen on the wire, flat is documented.
        case {"error": {"code": code, "msg": reason}} | {"code": code, "msg": reason}:
            request_id = message.get("id")
            return SubscriptionResponse(
                request_id if isinstance(request_id, int) else None, f"{reason} (code {code})"
            )
        # The last shape is the one that the exchange's own SDK expects.
        case {"data": {"e": str(kind)}} | {"e": str(kind)} | {"event": {"e": str(kind)}} if (
            kind != "kline"
        ):
            return OtherEvent(kind)
    raise BadFrame(f"not a kline frame: {kline_error}") from kline_error
