"""What can go wrong with REST answers: each takes the true one and gives another. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from attrs import evolve, frozen

from klineagent.twin.faults.events import Chance
from klineagent.twin.interval import MINUTE_MS, SECOND_MS
from klineagent.twin.rest.api import WEIGHT_HEADER, RestAnswer
from klineagent.twin.venues import BANNED, VenueRules

Spoiling = Callable[[RestAnswer, int], RestAnswer]
"""The true answer and the exchange's time in, the answer that is sent out."""

# How long a made-up ban is at first; who asks after its end is told of the next one.
_BAN_MS = 2 * MINUTE_MS
_HTML = (("Content-Type", "text/html"),)
_JSON = (("Content-Type", "application/json;charset=UTF-8"),)
_SERVER_ERRORS = (
    RestAnswer(
        503, _HTML, b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
    ),
    RestAnswer(500, _HTML, b"<html><body><h1>500 Internal Server Error</h1></body></html>"),
    RestAnswer(
        503,
        _JSON,
        b'{"code":-1001,"msg":"Internal error; unable to process your request. Please try again."}',
    ),
)


@frozen(kw_only=True)
class Refusal:
    """How every request is refused, since `since_ms`."""

    venue: VenueRules
    status: int
    headers: bool
    """Whether `Retry-After` is sent."""
    tells_until: bool
    """Whether a ban's text says when it ends."""
    since_ms: int

    def __call__(self, answer: RestAnswer, now_ms: int) -> RestAnswer:
        """The refusal in place of `answer`, with the weight that was told there."""
        if self.status == BANNED:
            until_ms = _next_multiple(now_ms - self.since_ms, _BAN_MS) + self.since_ms
            told = str(until_ms) if self.tells_until else "further notice"
            text = self.venue.banned.format(told)
        else:
            until_ms = _next_multiple(now_ms, MINUTE_MS)
            text = self.venue.too_many_requests
        headers = _JSON + tuple(each for each in answer.headers if each[0] == WEIGHT_HEADER)
        if self.headers:
            wait_s = -(-(until_ms - now_ms) // SECOND_MS)
            headers += (("Retry-After", str(wait_s)),)
        return RestAnswer(self.status, headers, msgspec.json.encode({"code": -1003, "msg": text}))


def weighing_wrong(factor: float, answer: RestAnswer, _now_ms: int) -> RestAnswer:
    """The used weight is told `factor` times as high as it is."""
    headers = tuple(
        (name, str(round(int(value) * factor)) if name == WEIGHT_HEADER else value)
        for name, value in answer.headers
    )
    return evolve(answer, headers=headers)


def hiding_weight(answer: RestAnswer, _now_ms: int) -> RestAnswer:
    """The used weight is not told."""
    headers = tuple(each for each in answer.headers if each[0] != WEIGHT_HEADER)
    return evolve(answer, headers=headers)


def failing(chance: Chance, answer: RestAnswer, _now_ms: int) -> RestAnswer:
    """A server's error, or the answer with half of its body missing."""
    if not chance.strikes():
        return answer
    kind = chance.dice.randrange(len(_SERVER_ERRORS) + 1)
    if kind < len(_SERVER_ERRORS):
        return _SERVER_ERRORS[kind]
    # Of two bytes, as of `{}`, one is left: no answer can be read as it is.
    return evolve(answer, body=answer.body[: (len(answer.body) + 1) // 2])


def _next_multiple(time_ms: int, span_ms: int) -> int:
    return (time_ms // span_ms + 1) * span_ms
