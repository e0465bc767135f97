"""Requests on stream sockets, answered in the exchange's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klineagent.reading.streams.requests import (
    LONGEST_NAME,
    MOST_NAMES,
    REQUESTS_AT_ONCE,
    Allowance,
    CloseReason,
    Conversation,
)

# Far apart: no test but that of the limit is about it.
APART_S = 1.0


class Talk:
    """A conversation, and what it subscribes."""

    def __init__(self, *, is_combined: bool = False) -> None:
        self.listened: list[str] = []
        self.shapes: list[bool] = []
        self.now_s = 0.0
        self.conversation = Conversation(
            is_combined=is_combined,
            added=self.listened.append,
            removed=self.listened.remove,
            reshaped=lambda: self.shapes.append(self.conversation.is_combined),
            allowance=Allowance(0.0),
        )

    def say(self, text: str) -> Any:
        """The answer to `text`."""
        self.now_s += APART_S
        answered = self.conversation.answer(text, self.now_s)
        return answered.text and msgspec.json.decode(answered.text)

    def ask(self, method: str, *params: object, request_id: object = 7) -> Any:
        """The answer to a request."""
        request = {"method": method, "params": params, "id": request_id}
        return self.say(msgspec.json.encode(request).decode())


def test_requests_are_acknowledged_in_order() -> None:
    """Any name is; to subscribe twice, or to end what never began, changes nothing."""
    talk = Talk()
    assert talk.ask("SUBSCRIBE", "b@kline_1m", "a", "b@kline_1m") == {"result": None, "id": 7}
    assert talk.ask("SUBSCRIBE", "a", "c") == {"result": None, "id": 7}
    assert talk.ask("UNSUBSCRIBE", "a", "never") == {"result": None, "id": 7}
    assert talk.ask("LIST_SUBSCRIPTIONS") == {"result": ["b@kline_1m", "c"], "id": 7}
    assert talk.listened == ["b@kline_1m", "c"]


@pytest.mark.parametrize("given_id", [1, 0, -5, 2**63 - 1, "a-1", "x" * 36, None])
def test_ids_come_back_as_they_were_sent(given_id: object) -> None:
    """Whatever the exchange takes as one."""
    assert Talk().ask("SUBSCRIBE", request_id=given_id) == {"result": None, "id": given_id}


def test_the_envelope_can_be_changed() -> None:
    """For all streams of the socket."""
    talk = Talk(is_combined=True)
    talk.ask("SUBSCRIBE", "a", "b")
    assert talk.ask("GET_PROPERTY", "combined")["result"] is True
    assert talk.ask("SET_PROPERTY", "combined", False)["result"] is None
    assert talk.ask("GET_PROPERTY", "combined")["result"] is False
    assert (talk.listened, talk.shapes) == (["a", "b"], [False])


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("x", 3, "Invalid JSON: expected value at line 1 column 1"),
        ("[1]", 2, "Invalid request: missing field `method` at line 1 column 3"),
        ('{"id":1}', 2, "Invalid request: missing field `method` at line 1 column 8"),
        (
            '{"method":"DANCE","id":1}',
            2,
            (
                "Invalid request: unknown variant `DANCE`, expected one of `SUBSCRIBE`,"
                " `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
                " at line 1 column 17"
            ),
        ),
        (
            '{"method":"SUBSCRIBE","params":["a"]}',
            2,
            "Invalid request: request ID must be an unsigned integer",
        ),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "Invalid request: invalid stream"),
        ('{"method":"SUBSCRIBE","params":"a","id":1}', 2, "Invalid request: invalid stream"),
        ('{"method":"GET_PROPERTY","params":["x"],"id":1}', 0, "Unknown property"),
        (
            '{"method":"SET_PROPERTY","params":["combined",1],"id":1}',
            1,
            "Invalid value type: expected Boolean",
        ),
        (
            '{"method":"GET_PROPERTY","params":["combined",1],"id":1}',
            2,
            "Invalid request: too many parameters",
        ),
        (
            '{"method":"GET_PROPERTY","params":[1],"id":1}',
            2,
            "Invalid request: property name must be a string",
        ),
    ],
)
def test_wrong_requests_get_the_exchanges_errors(text: str, code: int, message: str) -> None:
    """Nested as on its wire; the socket goes on."""
    talk = Talk()
    assert talk.say(text)["error"] == {"code": code, "msg": message}
    assert talk.ask("SUBSCRIBE", "a")["result"] is None


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda each: each.decode("latin1")))
def test_any_text_is_answered(text: str) -> None:
    """With an error, unless it happens to be a request."""
    assert Talk().say(text).keys() in ({"error", "id"}, {"result", "id"})


@pytest.mark.parametrize(
    "text",
    [
        '{"method":"SUBSCRIBE","params":["a"],"id":' + "9" * 5_000 + "}",
        '{"id":1,"method":' + "9" * 5_000 + "}",
        '{"id":1,"method":' + "[" * 900 + "]" * 900 + "}",
        '{"method":"SUBSCRIBE","params":["\\ud800"],"id":1}',
        '{"method":"\\ud800","id":1}',
    ],
)
def test_what_cannot_be_repeated_is_a_wrong_request(text: str) -> None:
    """Numbers without end, lists without end, halves of characters: the socket goes on."""
    talk = Talk()
    assert talk.say(text)["error"]["code"] in {2, 3}
    assert talk.ask("LIST_SUBSCRIPTIONS")["result"] == []


def test_a_name_too_long_for_a_stream_is_not_kept() -> None:
    """It is acknowledged as any other."""
    talk, longest = Talk(), "x" * LONGEST_NAME
    assert talk.ask("SUBSCRIBE", longest + "x", longest)["result"] is None
    assert talk.ask("LIST_SUBSCRIPTIONS")["result"] == talk.listened == [longest]


def _named(count: int) -> Sequence[str]:
    return [f"n{number}" for number in range(count)]


@pytest.mark.parametrize("before", [0, 1, MOST_NAMES])
def test_a_name_too_many_ends_the_socket(before: int) -> None:
    """After an error, as on the exchange."""
    talk = Talk()
    talk.ask("SUBSCRIBE", *_named(before))
    request = {"method": "SUBSCRIBE", "params": _named(MOST_NAMES + 1), "id": 3}
    answered = talk.conversation.answer(msgspec.json.encode(request).decode(), 99.0)
    assert answered.close_reason == CloseReason("Invalid request", 1008)
    assert answered.text is not None
    error = {"code": 4, "msg": "Too many subscriptions"}
    assert msgspec.json.decode(answered.text) == {"error": error, "id": 3}
    assert len(talk.listened) == before


def test_so_do_too_many_names_in_the_path() -> None:
    """As many as there may be are subscribed."""
    assert Talk().conversation.begin(_named(MOST_NAMES + 1)).close_reason is not None
    talk = Talk()
    assert talk.conversation.begin(_named(MOST_NAMES)).close_reason is None
    assert talk.listened == _named(MOST_NAMES)


def test_too_many_requests_end_the_socket() -> None:
    """Fifteen at once are answered, and ten a second."""
    talk = Talk().conversation
    text = '{"method":"LIST_SUBSCRIPTIONS","id":1}'
    for _ in range(REQUESTS_AT_ONCE):
        assert talk.answer(text, 100.0).close_reason is None
    assert talk.answer(text, 100.0).close_reason == CloseReason("Too many requests", 1008)
    assert sum(talk.answer(text, 100.0 + step / 20).text is not None for step in range(100)) == 49
