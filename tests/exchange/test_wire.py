"""Frames to klines and responses."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.core.errors import BadFrame
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline
from klineagent.exchange.rest_answers import read_candles
from klineagent.exchange.wire import (
    OtherEvent,
    StreamedCandle,
    SubscriptionResponse,
    are_forming,
    beginning_of,
    decode_frame,
    decode_streamed,
    newest_of,
    stream_name,
    subscribe_request,
    unsubscribe_request,
)
from tests.exchange.recorded import recorded_frames

# Captured on production, 2026-10-07.
CAPTURED = """{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1791382992723,"s":"BTCUSDT","k":{
 "t":1791382980000,"T":1791383039999,"s":"BTCUSDT","i":"1m","f":8153633367,"L":8153634395,
 "o":"83084.90","c":"83091.60","h":"83091.70","l":"83051.20","v":"13.551","n":1027,"x":false,
 "q":"1125714.73960","V":"6.426","Q":"533856.66860","B":"0"}}}"""


def _changed(**fields: object) -> str:
    frame = json.loads(CAPTURED)
    frame["data"]["k"] |= fields
    return json.dumps(frame)


def _kline(frame: str) -> Kline:
    message = decode_frame(frame)
    assert isinstance(message, StreamedCandle)
    return message.data.as_kline("usdm")


def test_a_captured_frame_becomes_its_kline() -> None:
    """Every field of a production frame lands where it belongs."""
    message = decode_frame(CAPTURED)
    assert isinstance(message, StreamedCandle)
    assert message.stream == "btcusdt@kline_1m"
    assert _kline(CAPTURED)._asdict() == {
        "venue": "usdm",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "open_time": 1791382980000,
        "close_time": 1791383039999,
        "open": 83084.90,
        "high": 83091.70,
        "low": 83051.20,
        "close": 83091.60,
        "volume": 13.551,
        "quote_volume": 1125714.73960,
        "trades": 1027,
        "taker_buy_volume": 6.426,
        "taker_buy_quote_volume": 533856.66860,
        "first_trade_id": 8153633367,
        "last_trade_id": 8153634395,
        "is_closed": False,
        "event_time": 1791382992723,
        "version": 2 * 1791382992723,
        "source": "stream",
    }


def test_a_fetched_candle_becomes_the_row_that_any_closing_event_outranks() -> None:
    """It says that it was fetched and not when, so two agents that fetch it write the same row."""
    row = [1791382980000, *["1", "2", "0.5", "1.5", "9"], 1791383039999, "13", 7, "4", "6", "0"]
    [candle] = read_candles(json.dumps([row]).encode()).candles
    kline = candle.as_closed("usdm", "BTCUSDT", Interval.M1)
    assert (kline.is_closed, kline.source, kline.event_time) == (True, "rest", 1791383040000)
    closing = _kline(_changed(x=True))
    assert closing.event_time < closing.close_time
    assert closing.version > kline.version > kline.event_time


def test_a_row_that_was_cut_short_outranks_every_forming_event() -> None:
    """Events carry the close it should have had, and went on after its real close."""
    row = [1791382980000, *["1", "2", "0.5", "1.5", "9"], 1791382990000, "13", 7, "4", "6", "0"]
    [candle] = read_candles(json.dumps([row]).encode()).candles
    kline = candle.as_closed("usdm", "BTCUSDT", Interval.M1)
    forming = _kline(_changed(x=False))
    assert kline.close_time < forming.event_time
    assert kline.version > forming.version


def test_every_recorded_kline_frame_is_read() -> None:
    """Frames recorded from five venues decode, and their numbers are those on the wire."""
    frames = recorded_frames("kline-frames.jsonl")
    for frame in frames:
        kline = _kline(frame)
        candle = json.loads(frame)["data"]["k"]
        assert kline.close == float(candle["c"])
        assert kline.trades == candle["n"]
        assert kline.is_closed == candle["x"]
    assert len(frames) == 115


def test_every_other_recorded_frame_is_an_event_of_another_kind() -> None:
    """Valid frames that are not klines are distinguished from bad ones."""
    messages = [decode_frame(frame) for frame in recorded_frames("other-frames.jsonl")]
    assert {message.kind for message in messages if isinstance(message, OtherEvent)} == {
        "aggTrade",
        "bookTicker",
        "depthUpdate",
    }
    assert all(isinstance(message, OtherEvent) for message in messages)


def test_new_fields_do_no_harm() -> None:
    """The exchange may add fields anywhere."""
    assert isinstance(decode_frame(_changed(Z=1, st=[2])), StreamedCandle)


def test_a_candle_without_trades_is_read() -> None:
    """Trade ids of -1 mean that there was no trade."""
    kline = _kline(_changed(f=-1, L=-1, n=0, v="0"))
    assert kline.first_trade_id == kline.last_trade_id == -1


@pytest.mark.parametrize(
    "fields",
    [
        {"o": True},
        {"c": ""},
        {"c": None},
        {"n": -1},
        {"n": 2**32},
        {"L": -2},
        {"L": 2**63},
        {"t": -1},
        {"T": 10**13},
    ],
)
def test_values_no_candle_can_have_make_a_bad_frame(fields: dict[str, object]) -> None:
    """Values that a store could not hold are refused here."""
    with pytest.raises(BadFrame):
        _kline(_changed(**fields))


@pytest.mark.parametrize("key", ["t", "T", "s", "i", "f", "L", "o", "c", "h", "l", "v", "n", "x"])
def test_a_missing_field_makes_a_bad_frame(key: str) -> None:
    """A kline with a field missing is no kline."""
    frame = json.loads(CAPTURED)
    del frame["data"]["k"][key]
    with pytest.raises(BadFrame):
        decode_frame(json.dumps(frame))


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        ('{"result":null,"id":1}', SubscriptionResponse(1)),
        ('{"id":7,"result":["a@kline_1m"]}', SubscriptionResponse(7)),
        (
            '{"error":{"code":4,"msg":"Too many subscriptions"},"id":9}',
            SubscriptionResponse(9, "Too many subscriptions (code 4)"),
        ),
        (
            '{"code":3,"msg":"Invalid JSON","id":null}',
            SubscriptionResponse(None, "Invalid JSON (code 3)"),
        ),
    ],
)
def test_responses_are_read_in_every_shape(frame: str, answer: SubscriptionResponse) -> None:
    """Acknowledgements, and refusals both nested as seen and flat as documented."""
    assert decode_frame(frame) == answer


@pytest.mark.parametrize(
    "frame",
    [
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        '{"e":"serverShutdown","E":1770123456789}',
    ],
)
def test_a_shutdown_notice_is_an_event(frame: str) -> None:
    """Both shapes of the notice are read."""
    assert decode_frame(frame) == OtherEvent("serverShutdown")


@given(st.binary() | st.text())
def test_garbage_is_a_bad_frame(frame: str | bytes) -> None:
    """No bytes make the decoder fail in any other way."""
    with pytest.raises(BadFrame):
        decode_frame(frame)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_foreign_json_never_fails_otherwise(value: object) -> None:
    """JSON that is no frame of the exchange is bad, or a response or event by its shape."""
    with suppress(BadFrame):
        decode_frame(json.dumps(value))


def test_stream_names_keep_the_interval_and_lower_the_symbol() -> None:
    """Case matters in both halves of a stream's name."""
    assert stream_name("BTCUSDT", Interval.MO1) == "btcusdt@kline_1M"
    assert stream_name("币安人生USDT", Interval.M1) == "币安人生usdt@kline_1m"


def test_requests_are_the_exchanges_own() -> None:
    """SUBSCRIBE and UNSUBSCRIBE as documented."""
    assert json.loads(subscribe_request(["a@kline_1m"], 3)) == {
        "method": "SUBSCRIBE",
        "params": ["a@kline_1m"],
        "id": 3,
    }
    assert json.loads(unsubscribe_request(["a"], 4))["method"] == "UNSUBSCRIBE"


def _on(stream: str, *, is_closed: bool = False) -> bytes:
    frame = json.loads(_changed(x=is_closed)) | {"stream": stream}
    return json.dumps(frame, separators=(",", ":")).encode()


def test_candles_are_forming_if_none_is_closed() -> None:
    """A closed one among them would be lost if it were taken for a forming one."""
    forming, closed = _on("a"), _on("a", is_closed=True)
    assert are_forming([forming, forming])
    assert not are_forming([forming, closed])
    assert not are_forming([b'{"result":null,"id":1}', forming])


def test_the_newest_frame_of_each_stream_is_found_by_its_beginning() -> None:
    """The exchange writes the stream's name first."""
    old, other, new = _on("btcusdt@kline_1m"), _on("ethusdt@kline_1m"), _on("btcusdt@kline_1m")
    newest = newest_of([old, other, new])
    assert newest[beginning_of("btcusdt@kline_1m")] is new
    assert newest[beginning_of("ethusdt@kline_1m")] is other
    assert len(newest) == 2


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b'{"result":null,"id":1}',
        b'{"data":{},"stream":"btcusdt@kline_1m"}',
        b'{ "stream":"btcusdt@kline_1m","data":{}}',
        b'{"stream":"a,b","data":{}}',
        b'{"stream":5,"data":{}}',
        b'{"stream":"never ends',
        b'{"stream":"\\u5e01usdt@kline_1m","data":{}}',
    ],
)
def test_a_frame_with_another_beginning_has_no_stream(frame: bytes) -> None:
    """It could be taken for one of another stream."""
    with pytest.raises(BadFrame):
        newest_of([_on("btcusdt@kline_1m"), frame])


@pytest.mark.parametrize(
    "bad", [b"", b"{}", b"garbage", _on("a") * 2, _on("a") + b"\n" + _on("b"), _on("a")[:200]]
)
def test_frames_are_decoded_all_at_once_or_not_at_all(bad: bytes) -> None:
    """Each stands for one candle."""
    assert [each.stream for each in decode_streamed([_on("a"), _on("b")])] == ["a", "b"]
    with pytest.raises(BadFrame):
        decode_streamed([_on("a"), bad, _on("b")])
