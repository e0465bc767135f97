"""One request at a time through the door, so that many at once do not hold up everything else."""

from __future__ import annotations

import trio
from attrs import define
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from msgspec.json import encode

from klineagent.api.models.contract import Error

# About as many as a request takes to its answer, so that one or two are under way at a time. In an
# idle agent this is a third of a millisecond.
PASSES_APART = 8
# No longer, though: where others make passes long, waiting for so many helps nobody, and 200
# requests a second must get in.
APART_S = 0.002


class RequestPacer:
    """An ASGI app in front of another: requests enter some passes of the scheduler apart.

    Trio runs every task that can run before it looks at sockets and timers again. A hundred
    requests of a millisecond that begin together would each make their steps in the same passes,
    a tenth of a second long; the status server's answer takes several of those. Entering in turn
    keeps each pass as short as one request. Nobody waits for another's exchange or database:
    the turn ends as soon as the request is under way.
    """

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app
        self._turn = trio.StrictFIFOLock()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Pass on `scope` when it is its turn."""
        if scope["type"] == "http":
            async with self._turn:
                enters_at = trio.current_time() + APART_S
                for _ in range(PASSES_APART):
                    await trio.lowlevel.checkpoint()
                    if trio.current_time() >= enters_at:
                        break
        await self._app(scope, receive, send)


# More than any handler gives itself, which are 10 s for a body and 29 s for the exchange: who comes
# to this has met a bug.
ANSWER_WITHIN_S = 45


@define
class RequestDeadline:
    """An ASGI app in front of another; cancels it after `within_s`, and answers in its place."""

    app: ASGIFramework
    within_s: float = ANSWER_WITHIN_S

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Pass on `scope`; what has no answer by then gets 503."""
        has_begun = False

        async def watched_send(event: ASGISendEvent) -> None:
            nonlocal has_begun
            has_begun = True
            await send(event)

        with trio.move_on_after(self.within_s) as patience:
            await self.app(scope, receive, watched_send)
        if patience.cancelled_caught and not has_begun and scope["type"] == "http":
            await _give_up(send, self.within_s)


async def _give_up(send: ASGISendCallable, within_s: float) -> None:
    body = encode(Error(f"Service Unavailable: no answer within {within_s:g} s"))
    await send(
        {
            "type": "http.response.start",
            "status": 503,
            "headers": [(b"content-type", b"application/json"), (b"connection", b"close")],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
