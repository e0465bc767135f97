"""Faults of REST answers: each takes the true answer and returns another. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from attrs import evolve, frozen

from klineagent.twin.faults.events import Chance
from klineagent.twin.interval import MINUTE_MS, SECOND_MS
from klineagent.twin.rest.api import WEIGHT_HEADER, RestAnswer
from klineagent.twin.venues import BANNED, VenueRules

Spoiling = Callable[[RestAnswer, int], RestAnswer]
"""A fault of answers: the true answer and the exchange's time in, the answer to send out."""

# Length of a simulated ban; a request after its end gets the next one.
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
    """Refuses every request since `since_ms`."""

    venue: VenueRules
    status: int
    headers: bool
    """Whether to send `Retry-After`."""
    tells_until: bool
    """Whether the text of a ban says when it ends."""
    since_ms: int

    def __call__(self, answer: RestAnswer, now_ms: int) -> RestAnswer:
        """Return the refusal, with the used weight of `answer`."""
        if self.status == BANNED:
            until_ms = _next_multiple(now_ms - self.since_ms, _BAN_MS) + self.since_ms
            end = str(until_ms) if self.tells_until else "further notice"
            text = self.venue.banned.format(end)
        else:
            until_ms = _next_multiple(now_ms, MINUTE_MS)
            text = self.venue.too_many_requests
        headers = _JSON + tuple(each for each in answer.headers if each[0] == WEIGHT_HEADER)
        if self.headers:
            wait_s = -(-(until_ms - now_ms) // SECOND_MS)
            headers += (("Retry-After", str(wait_s)),)
        return RestAnswer(self.status, headers, msgspec.json.encode({"code": -1003, "msg": text}))


def weighing_wrong(factor: float, answer: RestAnswer, _now_ms: int) -> RestAnswer:
    """Report `factor` times the used weight."""
    headers = tuple(
        (name, str(round(int(value) * factor)) if name == WEIGHT_HEADER else value)
        for name, value in answer.headers
    )
    return evolve(answer, headers=headers)


def hiding_weight(answer: RestAnswer, _now_ms: int) -> RestAnswer:
    """Do not report the used weight."""
    headers = tuple(each for each in answer.headers if each[0] != WEIGHT_HEADER)
    return evolve(answer, headers=headers)


def failing(chance: Chance, answer: RestAnswer, _now_ms: int) -> RestAnswer:
    """Answer with a server error, or with half the body."""
    if not chance.strikes():
        return answer
    kind = chance.dice.randrange(len(_SERVER_ERRORS) + 1)
    if kind < len(_SERVER_ERRORS):
        return _SERVER_ERRORS[kind]
    # Even of two bytes, `{}`, one is cut: no answer remains valid.
    return evolve(answer, body=answer.body[: (len(answer.body) + 1) // 2])


def _next_multiple(time_ms: int, span_ms: int) -> int:
    return (time_ms // span_ms + 1) * span_ms
