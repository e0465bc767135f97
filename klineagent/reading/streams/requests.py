"""Requests on a stream socket and their answers, in the exchange's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from attrs import define, field, frozen

# The exchange's own limits.
MOST_NAMES = 1_024
REQUESTS_PER_SECOND = 10
REQUESTS_AT_ONCE = 15
POLICY_VIOLATION = 1008
# Half as long again as the longest that has events; longer ones would fill the memory.
LONGEST_NAME = 64

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_TEXT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_COMBINED = "combined"
_AT_BYTE = re.compile(r"\(byte (\d+)\)$")


@frozen
class CloseReason:
    """The reason why a socket is closed, as its close frame has it."""

    text: str
    code: int = POLICY_VIOLATION


@frozen
class Answered:
    """What follows from one request: an answer, the end of the socket, or both in this order."""

    text: bytes | None = None
    close_reason: CloseReason | None = None


class _WrongRequest(Exception):
    """The request is answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


@define
class Allowance:
    """What is left of a client's requests; times are seconds of any monotonic clock."""

    _since_s: float
    _left: float = field(default=REQUESTS_AT_ONCE, init=False)

    def take(self, now_s: float) -> bool:
        """Take one; False if there is none."""
        gained = (now_s - self._since_s) * REQUESTS_PER_SECOND
        self._left, self._since_s = min(REQUESTS_AT_ONCE, self._left + gained), now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@define(kw_only=True)
class Conversation:
    """The requests of one socket; names are not checked: the exchange acknowledges any."""

    is_combined: bool
    _added: Callable[[str], None]
    """Called with each name that is new and not too long, before the answer is there."""
    _removed: Callable[[str], None]
    _reshaped: Callable[[], None]
    """Called when `is_combined` has changed."""
    _allowance: Allowance
    names: dict[str, None] = field(factory=dict, init=False)
    """The subscribed names, in order."""

    def begin(self, names: Iterable[str]) -> Answered:
        """Subscribe the names of the path."""
        return self._overfull(None) if not self._subscribe(names) else Answered()

    def is_too_much(self, now_s: float) -> CloseReason | None:
        """Count a request, a part of one, a ping or a pong; return why one more is too many."""
        return None if self._allowance.take(now_s) else CloseReason("Too many requests")

    def answer(self, text: str, now_s: float) -> Answered:
        """Answer a request."""
        if (close_reason := self.is_too_much(now_s)) is not None:
            return Answered(close_reason=close_reason)
        request_id: object = None
        try:
            request = _read(text)
            request_id = request.get("id")
            if request["method"] == "SUBSCRIBE":
                if not self._subscribe(_names(request.get("params", []))):
                    return self._overfull(request_id)
                result: object = None
            else:
                result = self._perform(request["method"], request.get("params", []))
        except _WrongRequest as refused:
            return Answered(_error(refused.code, refused.text, request_id))
        return Answered(msgspec.json.encode({"result": result, "id": request_id}))

    def _subscribe(self, names: Iterable[str]) -> bool:
        """Subscribe `names`; False, and nothing is, if they would be too many."""
        short = (name for name in dict.fromkeys(names) if len(name) <= LONGEST_NAME)
        new = [name for name in short if name not in self.names]
        if len(self.names) + len(new) > MOST_NAMES:
            return False
        for name in new:
            self.names[name] = None
            self._added(name)
        return True

    def _overfull(self, request_id: object) -> Answered:
        error = _error(4, "Too many subscriptions", request_id)
        return Answered(error, CloseReason("Invalid request"))

    def _perform(self, method: str, params: object) -> object:
        match method:
            case "UNSUBSCRIBE":
                for name in _names(params):
                    if name in self.names:
                        del self.names[name]
                        self._removed(name)
            case "LIST_SUBSCRIPTIONS":
                return list(self.names)
            case "GET_PROPERTY":
                _check_property(params, most=1)
                return self.is_combined
            case _:
                _check_property(params, most=2)
                match params:
                    case [_, bool() as is_combined]:
                        self.is_combined = is_combined
                        self._reshaped()
                    case _:
                        raise _WrongRequest(1, "Invalid value type: expected Boolean")
        return None


def _error(code: int, text: str, request_id: object) -> bytes:
    # Nested is seen on the wire, flat is documented; clients know both.
    return msgspec.json.encode({"error": {"code": code, "msg": text}, "id": request_id})


def _read(text: str) -> dict[str, Any]:
    """Parse a request and check its method and id."""
    try:
        # It refuses what cannot be answered: halves of surrogate pairs, numbers without end.
        request = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        at = _AT_BYTE.search(str(error))
        column = int(at[1]) + 1 if at else len(text)
        raise _WrongRequest(3, f"Invalid JSON: expected value at line 1 column {column}") from error
    if not isinstance(request, dict) or "method" not in request:
        where = f"line 1 column {len(text)}"
        raise _WrongRequest(2, f"Invalid request: missing field `method` at {where}")
    method = request["method"]
    if method not in _METHODS:
        method = method if isinstance(method, str) else type(method).__name__
        column = text.find(method) + len(method) + 1
        choice = ", ".join(f"`{name}`" for name in _METHODS)
        raise _WrongRequest(
            2,
            f"Invalid request: unknown variant `{method}`, expected one of {choice}"
            f" at line 1 column {column}",
        )
    if not _is_id(request.get("id", ...)):
        raise _WrongRequest(2, "Invalid request: request ID must be an unsigned integer")
    return request


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return _TEXT_ID.fullmatch(value) is not None
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _names(params: object) -> list[str]:
    if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
        raise _WrongRequest(2, "Invalid request: invalid stream")
    return params


def _check_property(params: object, *, most: int) -> None:
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise _WrongRequest(2, "Invalid request: property name must be a string")
    if len(params) > most:
        raise _WrongRequest(2, "Invalid request: too many parameters")
    if params[0] != _COMBINED:
        raise _WrongRequest(0, "Unknown property")
