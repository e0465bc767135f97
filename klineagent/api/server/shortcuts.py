"""What a server does with a request before its app sees it."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import cache
from typing import TypeVar
from urllib.parse import parse_qsl

import h11
from attrs import frozen
from msgspec import Struct, ValidationError, convert
from msgspec.structs import fields

from klineagent.api.guard import Guard, RequestHead, unread_head
from klineagent.api.server.upgrade import HandleSocket
from klineagent.core.errors import RequestError

Query = TypeVar("Query", bound=Struct)


@frozen
class ReadyAnswer:
    """An answer with status 200 that is there already."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


AnswerAtOnce = Callable[[h11.Request], ReadyAnswer | None]
"""A function that answers a GET request, or leaves it to the app."""


@frozen
class PassedRequest:
    """A GET request that passes a guard, before an app reads it."""

    path: bytes
    head: RequestHead
    headers: dict[bytes, bytes]
    parameters: list[tuple[str, str]]

    def query(self, kind: type[Query]) -> Query | None:
        """Return its parameters as `kind`; None if the app would refuse them."""
        given = dict(self.parameters)
        if len(given) < len(self.parameters) or not given.keys() <= _names_in(kind):
            return None
        try:
            return convert(given, kind, strict=False)
        except ValidationError:
            return None


def passed(asked: h11.Request, guard: Guard, paths: Container[bytes]) -> PassedRequest | None:
    """Return a request for one of `paths`; None leaves it to the app, which may refuse it."""
    path, _, query = asked.target.partition(b"?")
    if path not in paths:
        return None
    headers = dict(asked.headers)
    head = unread_head(path, headers)
    try:
        guard.check(head)
        parameters = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    except (RequestError, UnicodeDecodeError):
        return None
    return PassedRequest(path, head, headers, parameters)


@cache
def _names_in(kind: type[Struct]) -> frozenset[str]:
    return frozenset(each.encode_name for each in fields(kind))


@frozen(kw_only=True)
class Shortcuts:
    """The ways round an app: an answer at once takes a third of the time, a socket none of it."""

    sockets: HandleSocket | None = None
    answer: AnswerAtOnce | None = None

    def answer_of(self, request: h11.Request) -> ReadyAnswer | None:
        """Return the answer to a request if it is there at once, and the request has no body."""
        if self.answer is None or request.method != b"GET":
            return None
        if any(name in {b"content-length", b"transfer-encoding"} for name, _ in request.headers):
            return None
        return self.answer(request)


def first_of(*ways: AnswerAtOnce) -> AnswerAtOnce:
    """Return a function that answers by the first way that has an answer."""

    def answer(request: h11.Request) -> ReadyAnswer | None:
        return next(filter(None, (way(request) for way in ways)), None)

    return answer


NO_SHORTCUTS = Shortcuts()
