"""One request at a time through the door, so that many at once do not hold up everything else."""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope


class Turnstile:
    """An ASGI app in front of another: requests enter one per pass of the scheduler.

    Trio runs every task that can run before it looks at sockets and timers again. A hundred
    requests of a millisecond that begin together would each make their steps in the same passes,
    a tenth of a second long; the status server's answer takes several of those. Entering in turn
    keeps each pass as short as a few requests. Nobody waits for another's exchange or database:
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
                await trio.lowlevel.checkpoint()
        await self._app(scope, receive, send)
