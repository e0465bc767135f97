"""Serving an app over HTTP for as long as the calling task lives."""

from __future__ import annotations

import logging
import ssl
from functools import partial

import hypercorn.config
import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from klineagent.bind import Bind
from klineagent.control.connection import HEAD_BYTES, Connection, Places
from klineagent.errors import StartError

# More than the requests that may arrive in one burst; the kernel refuses what exceeds it.
BACKLOG = 1024
# A server's share of the file descriptors a process usually may have, which are 1024: those who
# knock must not take what the exchange's and the database's connections need.
MAX_CONNECTIONS = 300


async def serve_http(
    app: ASGIFramework,
    bind: Bind,
    *,
    drain_s: float,
    tls: ssl.SSLContext | None = None,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[Bind] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` at `bind` until cancelled; reports the address it got, port 0 resolved.

    Cancelled, it stops accepting and gives the requests under way `drain_s` seconds to end.

    Raises:
        StartError: `bind` cannot be listened on.
    """
    listeners = await _listen(bind)
    host, port, *_ = listeners[0].socket.getsockname()
    wrapped, config = wrap_app(app, 0, "asgi"), _hypercorn_config()
    context, places = WorkerContext(max_requests=None), Places(max_connections)

    async def serve_connection(stream: trio.SocketStream) -> None:
        secured = (
            stream
            if tls is None
            else trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        )
        await Connection(wrapped, config, context, places, secured).run()

    stopping = trio.Event()
    # Shielded from the caller's cancellation; the deadline comes when stopping begins.
    grace = trio.CancelScope(shield=True)

    async def stop_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopping.set()
            grace.deadline = trio.current_time() + drain_s

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_cancelled)
        with grace:
            async with trio.open_nursery() as requests, trio.open_nursery() as intake:
                serve = partial(trio.serve_listeners, handler_nursery=requests)
                intake.start_soon(serve, serve_connection, listeners)
                task_status.started(Bind(host, port))
                await stopping.wait()
                await context.terminated.set()
                places.end_idle()
                intake.cancel_scope.cancel(reason="asked to stop")


async def _listen(bind: Bind) -> list[trio.SocketListener]:
    try:
        listeners = await trio.open_tcp_listeners(bind.port, host=bind.host, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"cannot listen on {bind}: {reason}") from error
    if bind.port == 0:
        # A name with several addresses would get a port for each; one is told, so one it is.
        for spare in listeners[1:]:
            await spare.aclose()
        listeners = listeners[:1]
    return listeners


def _hypercorn_config() -> hypercorn.config.Config:
    config = hypercorn.config.Config()
    config.h11_max_incomplete_size = HEAD_BYTES
    config.accesslog = None
    # Its own handler would write beside our log.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config
