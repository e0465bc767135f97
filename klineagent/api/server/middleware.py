"""ASGI middleware: starts requests in turn, gives each a deadline, cuts what has no end."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio
from attrs import define, field
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from msgspec.json import encode

from klineagent.api.models.contract import Error
from klineagent.core.errors import ReadError

# About as many passes as a request takes to its answer, so that one or two run at a time. In an
# idle agent this takes a third of a millisecond.
PASSES_APART = 8
# An upper bound: when other tasks make passes long, waiting for so many gains nothing, and 200
# requests a second must be let in.
APART_S = 0.002

log = structlog.get_logger()


class RequestPacer:
    """Lets requests into an ASGI app a few scheduler passes apart.

    Trio runs every runnable task before it polls sockets and timers again. A hundred requests of a
    millisecond that begin together would all step in the same passes, a tenth of a second long,
    and an answer of the status server takes several passes. Entering in turn keeps each pass as
    short as one request. A request's turn ends as soon as it has started, so none waits for
    another's exchange or database calls.
    """

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app
        self._turn = trio.StrictFIFOLock()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Call the app with `scope` when its turn has come."""
        if scope["type"] == "http":
            async with self._turn:
                enters_at = trio.current_time() + APART_S
                for _ in range(PASSES_APART):
                    await trio.lowlevel.checkpoint()
                    if trio.current_time() >= enters_at:
                        break
        await self._app(scope, receive, send)


# More than the handlers' own deadlines, 10 s for a body and 29 s for the exchange: only a bug
# exceeds it.
ANSWER_WITHIN_S = 45
RETRY_AFTER_S = 5


@define
class RequestDeadline:
    """Cancels a request to an ASGI app after `within_s`, and answers it with 503."""

    app: ASGIFramework
    within_s: float = ANSWER_WITHIN_S
    by_path: Mapping[str, float] = field(factory=dict)
    """Other deadlines in seconds, by path."""

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Call the app with `scope`; a request not answered in time gets 503."""
        has_begun = False
        within_s = self.within_s
        if scope["type"] == "http":
            within_s = self.by_path.get(scope["path"], within_s)

        async def watched_send(event: ASGISendEvent) -> None:
            nonlocal has_begun
            has_begun = True
            await send(event)

        with trio.move_on_after(within_s) as patience:
            await self.app(scope, receive, watched_send)
        if patience.cancelled_caught and not has_begun and scope["type"] == "http":
            await _give_up(send, f"no answer within {within_s:g} s")


@define
class FewAtOnce:
    """Lets so many requests for one path into an ASGI app at once; one that waits too long is 503.

    A request is over when its answer has been sent, so this bounds what answers take in memory.
    """

    app: ASGIFramework
    path: str
    places: trio.CapacityLimiter
    """Servers that answer the same path share it."""
    wait_s: float

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Call the app with `scope` when there is a place."""
        if scope["type"] != "http" or scope["path"] != self.path:
            await self.app(scope, receive, send)
            return
        try:
            with trio.fail_after(self.wait_s):
                await self.places.acquire()
        except trio.TooSlowError:
            await _give_up(
                send, f"{self.places.total_tokens} answers are being sent; try again later"
            )
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.places.release()


async def _give_up(send: ASGISendCallable, reason: str) -> None:
    body = encode(Error(f"Service Unavailable: {reason}"))
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close"),
        (b"retry-after", b"%d" % RETRY_AFTER_S),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@define
class CutAnswers:
    """Cuts the connection where the rest of an answer cannot be read, and logs why.

    The client sees that the answer is not whole: its last chunk is missing.
    """

    app: ASGIFramework

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Call the app; hypercorn closes the connection of an answer that has no end."""
        try:
            await self.app(scope, receive, send)
        except* ReadError as errors:
            log.warning("answer_cut", reason=str(errors.exceptions[0]))
