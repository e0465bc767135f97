"""Listens at an address, and serves an app there until the calling task is cancelled."""

from __future__ import annotations

import errno
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import hypercorn.config
import trio
from attrs import frozen
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from klineagent.api.server.connection import HEAD_BYTES, ConnectionSlots, HttpConnection
from klineagent.api.server.shortcuts import NO_SHORTCUTS, Shortcuts
from klineagent.core.address import Bind
from klineagent.core.errors import StartError

# More than the requests that may arrive in one burst; the kernel refuses what exceeds it.
BACKLOG = 1024
# A server's share of the usual 1024 file descriptors of a process: clients must not use up those
# that connections to the exchange and the database need.
MAX_CONNECTIONS = 300


@frozen
class Listener:
    """A bound address; clients that connect wait until it is served."""

    bind: Bind
    """With the real port where 0 was asked for."""
    sockets: list[trio.SocketListener]


@asynccontextmanager
async def open_listener(bind: Bind, option: str = "") -> AsyncIterator[Listener]:
    """Listen at `bind` until the block ends; an error names `option`, which sets the address.

    Raises:
        StartError: `bind` cannot be listened on.
    """
    try:
        sockets = await trio.open_tcp_listeners(bind.port, host=bind.host, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = ""
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and option:
            hint = f"; another agent may be running, or name another address with {option}"
        raise StartError(f"cannot listen on {bind}: {reason}{hint}") from error
    try:
        if bind.port == 0:
            # A name with several addresses would get a port for each; only one can be reported.
            for spare in sockets[1:]:
                spare.socket.close()
            del sockets[1:]
        host, port, *_ = sockets[0].socket.getsockname()
        yield Listener(Bind(host, port), sockets)
    finally:
        for each in sockets:
            each.socket.close()


async def serve_http(
    app: ASGIFramework,
    listener: Listener,
    *,
    drain_s: float,
    tls: ssl.SSLContext | None = None,
    max_connections: int = MAX_CONNECTIONS,
    shortcuts: Shortcuts = NO_SHORTCUTS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` at `listener`, and what takes `shortcuts` round it, until cancelled.

    On cancellation it stops accepting connections, and gives running requests `drain_s` seconds.
    """
    wrapped, config = wrap_app(app, 0, "asgi"), _hypercorn_config()
    context, slots = WorkerContext(max_requests=None), ConnectionSlots(max_connections)

    async def serve_connection(stream: trio.SocketStream) -> None:
        secured = (
            stream
            if tls is None
            else trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        )
        await HttpConnection(wrapped, config, context, slots, secured, shortcuts).run()

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
                intake.start_soon(serve, serve_connection, listener.sockets)
                task_status.started()
                await stopping.wait()
                await context.terminated.set()
                slots.end_idle()
                intake.cancel_scope.cancel(reason="asked to stop")


def _hypercorn_config() -> hypercorn.config.Config:
    config = hypercorn.config.Config()
    config.h11_max_incomplete_size = HEAD_BYTES
    config.accesslog = None
    # The bounds of connection.py suffice: programs that poll keep their connection for days.
    config.keep_alive_max_requests = 2**62
    # hypercorn's own handler would bypass our log format.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config
