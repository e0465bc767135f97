"""Child processes that report events as lines of JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio
from attrs import define, field

from klineagent.core.errors import UNREADABLE, KlineagentError

FAILED = "failed"
"""The event a process emits before it gives up; its `error` is the reason."""
_LAST_WORDS = 3
_ENDS_WITHIN_S = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

ChildEvent = dict[str, Any]


class BenchFailed(KlineagentError):
    """A process that was to be measured failed, ended early or was too slow."""


def emit(event: str, **details: Any) -> None:
    """Write `event` to standard output; called in the child process."""
    sys.stdout.buffer.write(msgspec.json.encode({"event": event, **details}) + b"\n")
    sys.stdout.buffer.flush()


@define(eq=False)
class Child:
    """A running process and the events it has reported so far."""

    name: str
    process: trio.Process
    _events: defaultdict[str, list[ChildEvent]] = field(
        factory=lambda: defaultdict(list), init=False
    )
    _last_words: deque[str] = field(factory=lambda: deque(maxlen=_LAST_WORDS), init=False)
    _ended: bool = field(default=False, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)

    async def event(self, event: str, nth: int = 0) -> ChildEvent:
        """Wait for the `nth` report of `event`, counted from 0, and return it.

        Raises:
            BenchFailed: the process failed or ended before; with the reason it gave.
        """
        while len(self._events[event]) <= nth:
            if self._events[FAILED]:
                raise BenchFailed(f"{self.name}: {self._events[FAILED][0]['error']}")
            if self._ended:
                words = "; ".join(self._last_words) or "it gave no reason"
                raise BenchFailed(f"{self.name} ended too early: {words}")
            await self._news.wait()
        return self._events[event][nth]

    async def event_within(self, seconds: float, event: str, nth: int = 0) -> ChildEvent:
        """Wait for an event as `event` does, but at most `seconds`.

        Raises:
            BenchFailed: there was none in this time, or as for `event`.
        """
        with trio.move_on_after(seconds):
            return await self.event(event, nth)
        raise BenchFailed(f"{self.name} did not report {event!r} within {seconds:g} s")

    def count(self, event: str) -> int:
        """How often `event` was reported so far."""
        return len(self._events[event])

    async def go(self, order: str = "") -> None:
        """Send `order`, a line, to a process that waits for one on its standard input.

        Raises:
            BenchFailed: the process has ended.
        """
        assert self.process.stdin is not None  # noqa: S101 - `open_child` has made it
        try:
            await self.process.stdin.send_all(f"{order}\n".encode())
        except trio.BrokenResourceError as error:
            raise BenchFailed(f"{self.name} ended too early") from error

    async def listen(self, stream: trio.abc.ReceiveStream) -> None:
        """Collect the process's events until it ends."""
        unread = b""
        async for chunk in stream:
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            self._notify()
        self._ended = True
        self._notify()

    def cpu_s(self) -> float | None:
        """CPU seconds the process has used so far; None where the system does not report them."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return None
        # The second field is the program's name, which may hold anything.
        user, system = fields.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_S

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=ChildEvent)
            self._events[event["event"]].append(event)
        except (*UNREADABLE, KeyError):
            # Not an event: often a traceback, the reason why no event comes.
            if text := line.decode(errors="replace").strip():
                self._last_words.append(text)

    def _notify(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def open_child(
    name: str,
    command: Sequence[str],
    *,
    reports_on: Literal["stdout", "stderr"],
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run `command` while the block lasts, then terminate it; kill it after 5 seconds."""
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            command,
            check=False,
            stdin=subprocess.PIPE,
            deliver_cancel=_end,
            env={**os.environ, **(environ or {})},
            **{reports_on: subprocess.PIPE},
        )
        process = await nursery.start(run)
        child = Child(name, process)
        nursery.start_soon(child.listen, getattr(process, reports_on))
        yield child
        nursery.cancel_scope.cancel(reason="it is measured")


async def _end(process: trio.Process) -> None:
    """Do as Trio does, but without printing a command line of six hundred symbols."""
    process.terminate()
    await trio.sleep(_ENDS_WITHIN_S)
    process.kill()
