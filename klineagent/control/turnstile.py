"""One request at a time through the door, so that many at once do not hold up everything else."""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

# About as many as a request takes to its answer, so that one or two are under way at a time. In an
# idle agent this is a third of a millisecond.
PASSES_APART = 8
# No longer, though: where others make passes long, waiting for so many helps nobody, and 200
# requests a second must get in.
APART_S = 0.002


class Turnstile:
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
