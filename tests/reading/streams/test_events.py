"""The text of events: the exchange's own, or ours in the same form."""

from __future__ import annotations

import msgspec
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from klineagent.core.kline import Kline
from klineagent.exchange.rest_answers import SymbolInfo
from klineagent.exchange.venues import COINM, SPOT, USDM
from klineagent.exchange.wire import decode_streamed
from klineagent.reading.streams.events import CandleEvent, EventFormat, Form, framed_text

PLACES = {
    "BTCUSDT": (2, 3),
    "BTCUSD_PERP": (1, 0),
}


def format_of(kline: Kline) -> EventFormat:
    """The format of the symbols in recorded frames."""
    price, quantity = PLACES.get(kline.symbol, (None, None))
    info = SymbolInfo(
        symbol=kline.symbol,
        status="TRADING",
        is_trading=True,
        is_listed=True,
        price_places=price,
        quantity_places=quantity,
    )
    return EventFormat.of(info, {"usdm": USDM, "coinm": COINM, "spot": SPOT}[kline.venue])


def text_in(frame: bytes) -> str:
    """The text of a websocket frame, as a client's library reads it."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame)
    [event] = client.events()
    assert isinstance(event, TextMessage)
    return event.data


FRAME = (
    b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1791382992723,"s":"BTCUSDT","k":{'
    b'"t":1791382980000,"T":1791383039999,"s":"BTCUSDT","i":"1m","f":8153633367,"L":8153634395,'
    b'"o":"83084.90","c":"83091.60","h":"83091.70","l":"83051.20","v":"13.551","n":1027,"x":false,'
    b'"q":"1125714.73960","V":"6.426","Q":"533856.66860","B":"0"}}}'
)


def event_of(frame: bytes, venue: str, *, is_fetched: bool) -> CandleEvent:
    """The event of a frame; as if it was fetched, if so."""
    [streamed] = decode_streamed([frame])
    return CandleEvent(streamed.data.as_kline(venue), None if is_fetched else frame, format_of)


@pytest.mark.parametrize("is_fetched", [False, True])
def test_events_are_those_of_the_exchange_byte_by_byte(is_fetched: bool) -> None:
    """Bare and in the envelope; those that we write ourselves, too."""
    event = event_of(FRAME, "usdm", is_fetched=is_fetched)
    assert text_in(event.framed(Form(False, True))).encode() == FRAME
    assert text_in(event.framed(Form(False, False))).encode() == FRAME[36:-1]
    assert event.framed(Form(False, True)) is event.framed(Form(False, True))


def test_what_the_exchange_adds_is_passed_on() -> None:
    """A new field is for clients to know."""
    frame = FRAME.replace(b'"B":"0"', b'"B":"0","new":[1]')
    event = event_of(frame, "usdm", is_fetched=False)
    assert text_in(event.framed(Form(False, False))).encode() == frame[36:-1]


def test_a_frame_in_another_layout_has_the_same_content() -> None:
    """It is written anew where it must be taken apart."""
    frame = msgspec.json.format(FRAME, indent=1)
    event = event_of(frame, "usdm", is_fetched=False)
    assert text_in(event.framed(Form(False, False))).encode() == FRAME[36:-1]


@pytest.mark.parametrize(
    ("symbol", "venue", "pair"),
    [("BTCUSDT", "usdm", "BTCUSDT"), ("BTCUSD_PERP", "coinm", "BTCUSD")],
)
def test_continuous_klines_have_pair_and_contract(symbol: str, venue: str, pair: str) -> None:
    """Instead of the symbol; the rest is that of the klines."""
    event = event_of(FRAME.replace(b"BTCUSDT", symbol.encode()), venue, is_fetched=False)
    combined = msgspec.json.decode(text_in(event.framed(Form(True, True))))
    assert combined["stream"] == f"{pair.lower()}_perpetual@continuousKline_1m"
    data = combined["data"]
    assert data == msgspec.json.decode(text_in(event.framed(Form(True, False))))
    assert [data.pop(key) for key in ("e", "E", "ps", "ct")] == [
        "continuous_kline",
        1791382992723,
        pair,
        "PERPETUAL",
    ]
    [kline] = data.values()
    klines = msgspec.json.decode(text_in(event.framed(Form(False, False))))["k"]
    assert "s" not in kline
    assert kline.keys() == klines.keys() - {"s"}
    assert {key: kline[key] for key in "tTifLnxB"} == {key: klines[key] for key in "tTifLnxB"}


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_frames_of_any_size(size: int) -> None:
    """The length is written in one, three or nine bytes."""
    assert text_in(framed_text(b"x" * size)) == "x" * size
