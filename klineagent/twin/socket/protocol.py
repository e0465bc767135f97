"""The protocol of one client's websocket: requests in, replies out. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from attrs import define, field, frozen

from klineagent.twin.venues import STREAMS_PER_CONNECTION, VenueRules

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_TEXT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_COMBINED = "combined"


@frozen
class Hangup:
    """The exchange's decision to close a connection."""

    reason: str
    code: int = 1008


@frozen
class Reply:
    """The reply to one request: an answer, the end of the connection, or both in this order."""

    answer: bytes | None = None
    hangup: Hangup | None = None


@define
class Bucket:
    """A token bucket of requests: `capacity` at once, `per_second` in the long run."""

    capacity: float
    per_second: float
    level: float
    since_s: float

    def take(self, now_s: float) -> bool:
        """Take a token; False if there is none."""
        gained = (now_s - self.since_s) * self.per_second
        self.level = min(self.capacity, self.level + gained)
        self.since_s = now_s
        if self.level < 1:
            return False
        self.level -= 1
        return True


class _RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


@define(kw_only=True)
class SocketProtocol:
    """The state of one connection; times are seconds of any monotonic clock."""

    venue: VenueRules
    delivers: bool
    """Whether the route of this connection delivers klines."""
    combined: bool
    streams: dict[str, bool] = field(init=False)
    """Subscribed names in order, and whether each is delivered; names are not checked."""
    changes: int = field(init=False, default=0)
    """How often the subscriptions have changed."""
    _names: Iterable[str] = ()
    _bucket: Bucket
    _mutes: Callable[[str], bool]
    _breaches: Counter[str]
    # A muted name stays muted when it is unsubscribed and subscribed again.
    _muted: set[str] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self.streams = dict.fromkeys(self._names, self.delivers)

    def answer(self, text: str, now_s: float) -> Reply:
        """Answer a request with its result, or with an error in the exchange's own words."""
        if not self._bucket.take(now_s):
            return Reply(hangup=self._too_many_requests())
        request_id: object = None
        try:
            request = _read(text)
            request_id = request.get("id")
            result = self._perform(request)
        except _RefusedError as refused:
            error = {"code": refused.code, "msg": refused.text}
            return Reply(msgspec.json.encode({"error": error, "id": request_id}))
        if len(self.streams) > STREAMS_PER_CONNECTION:
            return self._overfull(request_id)
        return Reply(msgspec.json.encode({"result": result, "id": request_id}))

    def control_arrived(self, now_s: float) -> Hangup | None:
        """Count a ping or pong, if the venue counts them as requests."""
        if self.venue.controls_count and not self._bucket.take(now_s):
            return self._too_many_requests()
        return None

    def opening_reply(self) -> Reply:
        """The reply to the streams named in the URL."""
        return self._overfull(None) if len(self.streams) > STREAMS_PER_CONNECTION else Reply()

    def _too_many_requests(self) -> Hangup:
        self._breaches["requests_per_second"] += 1
        return Hangup("Too many requests")

    def _overfull(self, request_id: object) -> Reply:
        self._breaches["streams_per_connection"] += 1
        error = {"code": 4, "msg": "Too many subscriptions"}
        return Reply(
            msgspec.json.encode({"error": error, "id": request_id}), Hangup("Invalid request")
        )

    def _perform(self, request: dict[str, Any]) -> object:
        params = request.get("params", [])
        match request["method"]:
            case "SUBSCRIBE":
                self._subscribe(_names(params))
            case "UNSUBSCRIBE":
                self.changes += 1
                for name in _names(params):
                    self.streams.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                return list(self.streams)
            case "GET_PROPERTY":
                _property_name(params, most=1)
                return self.combined
            case "SET_PROPERTY":
                _property_name(params, most=2)
                match params:
                    case [_, bool() as combined]:
                        self.combined = combined
                    case _:
                        raise _RefusedError(1, "Invalid value type: expected Boolean")
        return None

    def _subscribe(self, names: Iterable[str]) -> None:
        self.changes += 1
        for name in names:
            if name not in self.streams and self._mutes(name):
                self._muted.add(name)
            self.streams[name] = self.delivers and name not in self._muted


def open_protocol(
    venue: VenueRules,
    target: str,
    now_s: float,
    *,
    mutes: Callable[[str], bool] = lambda _name: False,
    breaches: Counter[str] | None = None,
) -> SocketProtocol | None:
    """Open the protocol for a request target; None if there is no such path.

    `/ws/a/b` names raw streams, `/stream?streams=a/b` combined ones; either may name none.

    Args:
        venue: the rules of the venue.
        target: the request's path and query.
        now_s: the time in seconds.
        mutes: whether a stream that is subscribed by request stays silent.
        breaches: where breaches of limits are counted.
    """
    url = urlsplit(target)
    for prefix, delivers in venue.kline_routes.items():
        path = url.path.removeprefix(prefix)
        if not url.path.startswith(prefix):
            continue
        is_combined = path.rstrip("/") == "/stream"
        if not is_combined and path != "/ws" and not path.startswith("/ws/"):
            continue
        if is_combined:
            names = "/".join(parse_qs(url.query).get("streams", []))
        else:
            names = unquote(path.removeprefix("/ws"))
        return SocketProtocol(
            venue=venue,
            delivers=delivers,
            combined=is_combined,
            names=[name for name in names.split("/") if name],
            bucket=Bucket(
                venue.request_burst, venue.requests_per_second, venue.request_burst, now_s
            ),
            mutes=mutes,
            breaches=Counter() if breaches is None else breaches,
        )
    return None


def _read(text: str) -> dict[str, Any]:
    """Parse a request and check its method and id."""
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise _RefusedError(3, f"Invalid JSON: expected value at {where}") from error
    if not isinstance(request, dict) or "method" not in request:
        where = f"line 1 column {len(text)}"
        raise _RefusedError(2, f"Invalid request: missing field `method` at {where}")
    method = request["method"]
    if method not in _METHODS:
        # The column is where the method's value ends, counted from 1.
        column = text.find(str(method)) + len(str(method)) + 1
        choice = ", ".join(f"`{name}`" for name in _METHODS)
        raise _RefusedError(
            2,
            f"Invalid request: unknown variant `{method}`, expected one of {choice} "
            f"at line 1 column {column}",
        )
    if not _is_id(request.get("id", ...)):
        raise _RefusedError(2, "Invalid request: request ID must be an unsigned integer")
    return request


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return _TEXT_ID.fullmatch(value) is not None
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _names(params: object) -> Iterable[str]:
    if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
        raise _RefusedError(2, "Invalid request: invalid stream")
    return params


def _property_name(params: object, *, most: int) -> None:
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise _RefusedError(2, "Invalid request: property name must be a string")
    if len(params) > most:
        raise _RefusedError(2, "Invalid request: too many parameters")
    if params[0] != _COMBINED:
        raise _RefusedError(0, "Unknown property")
