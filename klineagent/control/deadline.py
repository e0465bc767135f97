"""An end to every request, whatever its handler waits for."""

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

from klineagent.control.models import Error

# More than any handler gives itself, which are 10 s for a body and 29 s for the exchange: who comes
# to this has met a bug.
ANSWER_WITHIN_S = 45


@define
class Deadline:
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
