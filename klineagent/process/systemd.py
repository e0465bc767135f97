"""Notifications to the service manager by systemd's protocol: one datagram per message.

`sd_notify(3)` recommends implementing the protocol rather than depending on a library.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn

import structlog
import trio
from attrs import frozen

# The send timeout: callers wait for it, and a service manager that does not read is of no use.
SEND_WITHIN_S = 1
_MICROSECONDS = 1_000_000

log = structlog.get_logger()


@frozen(kw_only=True)
class ServiceManager:
    """A service manager to notify; without an address notifications are dropped."""

    address: str | None = None
    """The path of its socket; that of an abstract socket begins with a zero byte."""
    watchdog_s: float | None = None
    """The seconds without notification after which it takes the agent for dead."""

    async def ready(self, status: str) -> None:
        """Notify that the start, or a reload, is done."""
        await self._notify("READY=1", f"STATUS={status}")

    async def reloading(self) -> None:
        """Notify that the configuration is being reloaded; `ready` follows."""
        await self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    async def stopping(self) -> None:
        """Notify that the agent is stopping."""
        await self._notify("STOPPING=1", "STATUS=storing what was received")

    async def keep_watchdog_quiet(self, watchdog_s: float) -> NoReturn:
        """Notify twice in `watchdog_s` that the event loop runs."""
        while True:
            await self._notify("WATCHDOG=1")
            await trio.sleep(watchdog_s / 2)

    async def _notify(self, *assignments: str) -> None:
        if self.address is None:
            return
        message = "\n".join(assignments).encode()
        try:
            with (
                trio.fail_after(SEND_WITHIN_S),
                trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM) as socket,
            ):
                # A connected socket waits for room in a full queue; another would have to poll.
                await socket.connect(self.address)
                await socket.send(message)
        except (OSError, trio.TooSlowError) as error:
            # The service manager may be gone for good; recording goes on without it.
            reason = str(error) or "it does not read"
            log.warning("notify_failed", told=assignments[0], error=reason)


def service_manager_of(environ: Mapping[str, str]) -> ServiceManager:
    """Return the service manager that started this process, by its environment variables."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return ServiceManager()  # none, or a vsock address, which is for virtual machines
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    return ServiceManager(address=address, watchdog_s=_watchdog_s(environ))


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    interval = environ.get("WATCHDOG_USEC", "")
    # A shell in between passes variables on that are meant for itself.
    is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(interval) / _MICROSECONDS if is_ours and interval.isdecimal() else None


@asynccontextmanager
async def open_service_manager(environ: Mapping[str, str]) -> AsyncIterator[ServiceManager]:
    """Open the service manager that started this process, and keep its watchdog quiet."""
    manager = service_manager_of(environ)
    async with trio.open_nursery() as nursery:
        if manager.watchdog_s is not None:
            nursery.start_soon(manager.keep_watchdog_quiet, manager.watchdog_s)
        yield manager
        nursery.cancel_scope.cancel(reason="the process is ending")
