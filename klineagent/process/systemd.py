"""Telling a service manager how we are, by systemd's protocol: one datagram a message.

`sd_notify(3)` asks programs to speak it themselves rather than to depend on a library.
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

# Longer it would hold up what waits for it, and a manager that does not read is none of ours.
SEND_WITHIN_S = 1
_MICROSECONDS = 1_000_000

log = structlog.get_logger()


@frozen(kw_only=True)
class ServiceManager:
    """A service manager; without an address there is none, and what it is told goes nowhere."""

    address: str | None = None
    """The path of its socket; an abstract one is written with a zero byte in front."""
    watchdog_s: float | None = None
    """It takes us for dead when it has not heard of us for so long."""

    async def ready(self, status: str) -> None:
        """Everything that was to be started, or to be read again, is."""
        await self._notify("READY=1", f"STATUS={status}")

    async def reloading(self) -> None:
        """The configuration is read again; `ready` follows."""
        await self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    async def stopping(self) -> None:
        """The end has begun."""
        await self._notify("STOPPING=1", "STATUS=storing what was received")

    async def keep_watchdog_quiet(self, watchdog_s: float) -> NoReturn:
        """Give a sign of life twice in `watchdog_s`, as long as this event loop turns."""
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
                # Connected, it waits for the manager to read; else a full queue would keep us busy.
                await socket.connect(self.address)
                await socket.send(message)
        except (OSError, trio.TooSlowError) as error:
            # It may be gone for good; what we are here for goes on without it.
            reason = str(error) or "it does not read"
            log.warning("notify_failed", told=assignments[0], error=reason)


def service_manager_of(environ: Mapping[str, str]) -> ServiceManager:
    """The service manager that has started us, as it says itself."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return ServiceManager()  # none, or a vsock address, which is for virtual machines
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    return ServiceManager(address=address, watchdog_s=_watchdog_s(environ))


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    interval = environ.get("WATCHDOG_USEC", "")
    # A shell between it and us would hand on what was not meant for us.
    is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(interval) / _MICROSECONDS if is_ours and interval.isdecimal() else None


@asynccontextmanager
async def open_service_manager(environ: Mapping[str, str]) -> AsyncIterator[ServiceManager]:
    """The service manager that has started us; hears that we live as long as the block lasts."""
    manager = service_manager_of(environ)
    async with trio.open_nursery() as nursery:
        if manager.watchdog_s is not None:
            nursery.start_soon(manager.keep_watchdog_quiet, manager.watchdog_s)
        yield manager
        nursery.cancel_scope.cancel(reason="nobody left to be watched")
