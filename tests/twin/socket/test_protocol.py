from __future__ import annotations

import json

import pytest

from klineagent.twin.socket.protocol import Hangup, SocketProtocol, open_protocol
from klineagent.twin.venues import COINM, SPOT, USDM, VenueRules


def protocol_at(target: str, venue: VenueRules = USDM) -> SocketProtocol:
    """The protocol of a new connection at an existing path."""
    protocol = open_protocol(venue, target, now_s=0)
    assert protocol is not None
    return protocol


def answer(protocol: SocketProtocol, request: object, now_s: float = 0) -> object:
    """The decoded answer to a request, which must not end the connection."""
    text = request if isinstance(request, str) else json.dumps(request)
    outcome = protocol.answer(text, now_s)
    assert outcome.hangup is None
    assert outcome.answer is not None
    return json.loads(outcome.answer)


@pytest.mark.parametrize(
    ("venue", "target", "delivers", "combined"),
    [
        (USDM, "/market/ws", True, False),
        (USDM, "/market/stream", True, True),
        (USDM, "/public/stream", False, True),
        (USDM, "/private/ws", False, False),
        (USDM, "/ws", False, False),
        (USDM, "/stream", False, True),
        (COINM, "/ws", True, False),
        (SPOT, "/stream", True, True),
    ],
)
def test_routes_are_answered_and_only_some_deliver(
    venue: VenueRules, target: str, delivers: bool, combined: bool
) -> None:
    """Old and wrong routes of USD-M acknowledge subscriptions and stay silent."""
    protocol = protocol_at(target, venue)
    assert (protocol.delivers, protocol.combined) == (delivers, combined)


@pytest.mark.parametrize("target", ["/", "/market", "/wsx", "/market/wss", "/fapi/v1/time"])
def test_other_paths_are_no_sockets(target: str) -> None:
    """A path that is neither `/ws` nor `/stream` is refused."""
    assert open_protocol(USDM, target, now_s=0) is None


@pytest.mark.parametrize(
    "target",
    [
        "/market/ws/btcusdt@kline_1m/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@kline_1h",
        "/market/stream?streams=btcusdt@kline_1m/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@kline_1h",
        "/market/stream?streams=btcusdt%40kline_1m/币安人生usdt@kline_1h",
    ],
)
def test_streams_are_named_in_both_forms_of_url(target: str) -> None:
    """Names may be percent-encoded, and are kept decoded."""
    assert list(protocol_at(target).streams) == ["btcusdt@kline_1m", "币安人生usdt@kline_1h"]


def test_everything_is_acknowledged() -> None:
    """Unknown names, upper case, nonsense: all are subscribed, listed and unsubscribed silently."""
    protocol = protocol_at("/market/stream")
    names = ["btcusdt@kline_1m", "BTCUSDT@kline_1m", "nonsense", "omgusdt@kline_9x"]
    assert answer(protocol, {"method": "SUBSCRIBE", "params": names, "id": 1}) == {
        "result": None,
        "id": 1,
    }
    assert answer(protocol, {"method": "LIST_SUBSCRIPTIONS", "id": 2}) == {"result": names, "id": 2}
    gone = {"method": "UNSUBSCRIBE", "params": ["nonsense", "never@subscribed"], "id": "a-3"}
    assert answer(protocol, gone) == {"result": None, "id": "a-3"}
    assert "nonsense" not in protocol.streams


def test_the_envelope_can_be_switched() -> None:
    """SET_PROPERTY changes the result of GET_PROPERTY."""
    protocol = protocol_at("/market/ws")
    get = {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}
    assert answer(protocol, get) == {"result": False, "id": 2}
    switch = {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}
    assert answer(protocol, switch) == {"result": None, "id": 5}
    assert answer(protocol, get) == {"result": True, "id": 2}
    assert protocol.combined


CHOICE = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"

WHERE = "at line 1 column 23"


@pytest.mark.parametrize(
    ("request_text", "code", "message"),
    [
        ('{"method":"GET_PROPERTY","params":["other"],"id":1}', 0, "Unknown property"),
        (
            '{"method":"SET_PROPERTY","params":["combined",1],"id":1}',
            1,
            "Invalid value type: expected Boolean",
        ),
        (
            '{"method":"GET_PROPERTY","params":[7],"id":1}',
            2,
            "Invalid request: property name must be a string",
        ),
        (
            '{"method":"GET_PROPERTY","params":["combined",2],"id":1}',
            2,
            "Invalid request: too many parameters",
        ),
        (
            '{"method":"SUBSCRIBE","params":["a"]}',
            2,
            "Invalid request: request ID must be an unsigned integer",
        ),
        (
            '{"method":"SUBSCRIBE","params":["a"],"id":1.5}',
            2,
            "Invalid request: request ID must be an unsigned integer",
        ),
        (
            '{"method":"SUBSCRIBERS","id":1}',
            2,
            f"Invalid request: unknown variant `SUBSCRIBERS`, expected one of {CHOICE} {WHERE}",
        ),
        (
            '{"params":["a"],"id":1}',
            2,
            "Invalid request: missing field `method` at line 1 column 23",
        ),
        ("subscribe!", 3, "Invalid JSON: expected value at line 1 column 1"),
        ('{"method":"SUBSCRIBE","params":"a","id":1}', 2, "Invalid request: invalid stream"),
    ],
)
def test_errors_have_the_exchanges_own_words(request_text: str, code: int, message: str) -> None:
    """Code and text are nested, as on the wire."""
    reply = answer(protocol_at("/market/ws"), request_text)
    assert isinstance(reply, dict)
    assert reply["error"] == {"code": code, "msg": message}


def test_the_last_stream_too_many_ends_the_connection() -> None:
    """1024 streams are allowed; one more leads to code 4, then 1008."""
    protocol = protocol_at("/market/stream")
    names = [f"stream{number}" for number in range(1_024)]
    assert answer(protocol, {"method": "SUBSCRIBE", "params": names, "id": 1}) == {
        "result": None,
        "id": 1,
    }
    answer(protocol, {"method": "SUBSCRIBE", "params": names[:3], "id": 2})
    outcome = protocol.answer('{"method":"SUBSCRIBE","params":["another"],"id":3}', 0)
    assert outcome.answer is not None
    assert json.loads(outcome.answer) == {
        "error": {"code": 4, "msg": "Too many subscriptions"},
        "id": 3,
    }
    assert outcome.hangup == Hangup("Invalid request", 1008)


def test_too_many_streams_in_a_url_end_the_connection_at_once() -> None:
    """It does not wait for a request."""
    names = "/".join(f"stream{number}" for number in range(1_025))
    assert protocol_at(f"/market/ws/{names}").opening_reply().hangup == Hangup("Invalid request")
    assert protocol_at("/market/ws/one").opening_reply().hangup is None


@pytest.mark.parametrize(("venue", "burst", "per_second"), [(USDM, 15, 10), (SPOT, 5, 5)])
def test_a_burst_ends_the_connection(venue: VenueRules, burst: int, per_second: int) -> None:
    """A burst's requests are answered back to back; a second later there is room again."""
    request = '{"method":"LIST_SUBSCRIPTIONS","id":1}'
    target = "/market/ws" if venue is USDM else "/ws"
    protocol = protocol_at(target, venue)
    for _ in range(burst):
        answer(protocol, request)
    rested = protocol_at(target, venue)
    for _ in range(burst):
        answer(rested, request)
    assert protocol.answer(request, 0.01).hangup == Hangup("Too many requests", 1008)
    for _ in range(per_second):
        answer(rested, request, now_s=1)
    assert rested.answer(request, 1).hangup is not None


def test_pings_and_pongs_count_on_spot_only() -> None:
    """Spot allows five control frames in a second; USD-M does not count them."""
    spot, usdm = protocol_at("/ws", SPOT), protocol_at("/market/ws")
    assert [spot.control_arrived(0) is None for _ in range(6)] == [True] * 5 + [False]
    assert all(usdm.control_arrived(0) is None for _ in range(50))
