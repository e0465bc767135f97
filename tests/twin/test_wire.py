import msgspec
import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from klineagent.twin.interval import TwinInterval
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.listings import Coin, list_coin
from klineagent.twin.wire import Series, frame_of, kline_event, kline_row

# A frame of production, captured 2026-10-07.
CAPTURED = (
    '{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1791382992723,"s":"BTCUSDT","k":{'
    '"t":1791382980000,"T":1791383039999,"s":"BTCUSDT","i":"1m","f":8153633367,"L":8153634395,'
    '"o":"83084.90","c":"83091.60","h":"83091.70","l":"83051.20","v":"13.551","n":1027,"x":false,'
    '"q":"1125714.73960","V":"6.426","Q":"533856.66860","B":"0"}}}'
)
CANDLE = Candle(
    1_791_382_980_000,
    8_308_490,
    8_309_170,
    8_305_120,
    8_309_160,
    13_551,
    112_571_473_960,
    1_027,
    6_426,
    53_385_666_860,
    8_153_633_367,
    8_153_634_395,
)
SERIES = Series(list_coin(Coin("BTC", 83_000, 2, 3), "usdm", 0), TwinInterval.M1)


def unframed(frame: bytes) -> str:
    """The text in a websocket frame."""
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(frame)
    (read,) = reader.received_frames()
    assert read.opcode is Opcode.TEXT
    assert isinstance(read.payload, str)
    return read.payload


def test_an_event_is_what_production_sends() -> None:
    """Keys, their order, and every digit equal a captured frame, in the envelope and bare."""
    event = kline_event(SERIES, CANDLE, 1_791_382_992_723, is_closed=False)
    assert unframed(event.framed(combined=True)) == CAPTURED
    bare = msgspec.json.encode(msgspec.json.decode(CAPTURED)["data"]).decode()
    assert unframed(event.framed(combined=False)) == bare


def test_a_frame_is_made_once() -> None:
    """All subscribers of a stream get the same bytes object."""
    event = kline_event(SERIES, CANDLE, 1_791_382_992_723, is_closed=True)
    assert event.framed(combined=True) is event.framed(combined=True)
    assert event.framed(combined=False) is event.framed(combined=False)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_texts_of_every_size_have_a_frame(size: int) -> None:
    """The head has the size in one, three or nine bytes, at each bound of the protocol."""
    text = "a" * size
    assert unframed(frame_of(text.encode())) == text
    assert frame_of(text.encode()) == bytes(
        FrameProtocol(client=False, extensions=[]).send_data(text)
    )


def test_names_in_envelopes_keep_their_alphabet() -> None:
    """A Chinese stream name is UTF-8, not escaped."""
    series = Series(list_coin(Coin("币安人生", 1, 2, 3), "usdm", 0), TwinInterval.M1)
    frame = unframed(kline_event(series, CANDLE, 1, is_closed=True).framed(combined=True))
    assert frame.startswith('{"stream":"币安人生usdt@kline_1m"')


def test_a_row_has_the_twelve_fields_of_the_rest_answer() -> None:
    """Order and types are the captured ones."""
    assert kline_row(SERIES, CANDLE) == [
        1_791_382_980_000,
        "83084.90",
        "83091.70",
        "83051.20",
        "83091.60",
        "13.551",
        1_791_383_039_999,
        "1125714.73960",
        1_027,
        "6.426",
        "533856.66860",
        "0",
    ]
