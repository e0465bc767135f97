"""Serving an app over HTTP for as long as the calling task lives."""

from __future__ import annotations

import logging
import socket

import hypercorn.config
import hypercorn.trio
import trio
from hypercorn.typing import ASGIFramework

from klineagent.bind import Bind
from klineagent.errors import StartError

# More than the requests that may arrive in one burst; the kernel refuses what exceeds it.
BACKLOG = 1024
# Ours is the backstop of hypercorn's own deadline, which ends its app in order.
BACKSTOP_S = 0.5
# How long a client may leave what was sent to it unread. Long enough for a few lost packets, short
# enough for who stops us while such a client hangs on.
READ_WITHIN_S = 3


async def serve_http(
    app: ASGIFramework,
    bind: Bind,
    *,
    drain_s: float,
    task_status: trio.TaskStatus[Bind] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` at `bind` until cancelled; reports the address it got, port 0 resolved.

    Cancelled, it stops accepting and gives the requests under way `drain_s` seconds to end.

    Raises:
        StartError: `bind` cannot be listened on.
    """
    listeners = await _listen(bind)
    host, port, *_ = listeners[0].socket.getsockname()
    config = _hypercorn_config(listeners, drain_s)
    stopping = trio.Event()
    # Shielded from the caller's cancellation; the deadline comes when stopping begins.
    grace = trio.CancelScope(shield=True)

    async def serve(  # noqa: ASYNC128 - hypercorn calls it
        *, task_status: trio.TaskStatus[list[str]]
    ) -> None:
        with grace:
            await hypercorn.trio.serve(
                app, config, shutdown_trigger=stopping.wait, task_status=task_status
            )

    async def stop_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopping.set()
            grace.deadline = trio.current_time() + drain_s + BACKSTOP_S

    async with trio.open_nursery() as nursery:
        # A task of its own: the cancellation may come while `serve` is still starting.
        nursery.start_soon(stop_when_cancelled)
        await nursery.start(serve)
        task_status.started(Bind(host, port))


async def _listen(bind: Bind) -> list[trio.SocketListener]:
    try:
        listeners = await trio.open_tcp_listeners(bind.port, host=bind.host, backlog=BACKLOG)
        if bind.port == 0:
            # A name with several addresses would get a port for each; one is told, so one it is.
            for spare in listeners[1:]:
                await spare.aclose()
            listeners = listeners[:1]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"cannot listen on {bind}: {reason}") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        for listener in listeners:
            # hypercorn shields its sends without a deadline: a client that does not read its
            # answer would keep us from ending. The kernel drops it instead, whatever scopes say.
            listener.socket.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READ_WITHIN_S * 1000
            )
    return listeners


def _hypercorn_config(
    listeners: list[trio.SocketListener], drain_s: float
) -> hypercorn.config.Config:
    config = hypercorn.config.Config()
    # Handed over by descriptor: hypercorn's own binding knows neither names nor our errors.
    config.bind = [f"fd://{listener.socket.detach()}" for listener in listeners]
    config.backlog = BACKLOG
    config.graceful_timeout = drain_s
    config.accesslog = None
    # Its own handler would write beside our log.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config
