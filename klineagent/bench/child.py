"""Processes that tell of themselves in lines of JSON."""

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
"""The event of a process that gives up; its `error` is the reason."""
_LAST_WORDS = 3
_ENDS_WITHIN_S = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Told = dict[str, Any]


class BenchFailed(KlineagentError):
    """Something that was to be measured did not run."""


def tell(event: str, **details: Any) -> None:
    """Tell of `event`; for the process itself, on standard output."""
    sys.stdout.buffer.write(msgspec.json.encode({"event": event, **details}) + b"\n")
    sys.stdout.buffer.flush()


@define(eq=False)
class Child:
    """A running process and what it has told so far."""

    name: str
    process: trio.Process
    _told: defaultdict[str, list[Told]] = field(factory=lambda: defaultdict(list), init=False)
    _last_words: deque[str] = field(factory=lambda: deque(maxlen=_LAST_WORDS), init=False)
    _ended: bool = field(default=False, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)

    async def told(self, event: str, nth: int = 0) -> Told:
        """What the process tells of `event`, the first time or a later one; waits for it.

        Raises:
            BenchFailed: it fails or ends before that; the reason is its own.
        """
        while len(self._told[event]) <= nth:
            if self._told[FAILED]:
                raise BenchFailed(f"{self.name}: {self._told[FAILED][0]['error']}")
            if self._ended:
                words = "; ".join(self._last_words) or "it gave no reason"
                raise BenchFailed(f"{self.name} ended too early: {words}")
            await self._news.wait()
        return self._told[event][nth]

    async def told_within(self, seconds: float, event: str, nth: int = 0) -> Told:
        """The same, with an end to patience.

        Raises:
            BenchFailed: it has not told by then.
        """
        with trio.move_on_after(seconds):
            return await self.told(event, nth)
        raise BenchFailed(f"{self.name} has not told {event!r} within {seconds:g} s")

    async def go(self) -> None:
        """Let a process begin that waits for a line on its standard input.

        Raises:
            BenchFailed: it has ended.
        """
        assert self.process.stdin is not None  # noqa: S101 - `open_child` has made it
        try:
            await self.process.stdin.send_all(b"\n")
        except trio.BrokenResourceError as error:
            raise BenchFailed(f"{self.name} ended too early") from error

    async def listen(self, stream: trio.abc.ReceiveStream) -> None:
        """Take in what it tells, until it ends."""
        unread = b""
        async for chunk in stream:
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            self._notify()
        self._ended = True
        self._notify()

    def cpu_s(self) -> float | None:
        """CPU seconds it has used so far; None where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return None
        # The second field is the program's name, which may hold anything.
        user, system = fields.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_S

    def _take(self, line: bytes) -> None:
        try:
            told = msgspec.json.decode(line, type=Told)
            self._told[told["event"]].append(told)
        except (*UNREADABLE, KeyError):
            # No event, but perhaps the reason why there is none.
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
    tells_on: Literal["stdout", "stderr"],
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run `command` while the block lasts; then it is asked to end, and made to after 5 seconds."""
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            command,
            check=False,
            stdin=subprocess.PIPE,
            deliver_cancel=_end,
            env={**os.environ, **(environ or {})},
            **{tells_on: subprocess.PIPE},
        )
        process = await nursery.start(run)
        child = Child(name, process)
        nursery.start_soon(child.listen, getattr(process, tells_on))
        yield child
        nursery.cancel_scope.cancel(reason="it is measured")


async def _end(process: trio.Process) -> None:
    """As Trio does, but without printing a command line of six hundred symbols."""
    process.terminate()
    await trio.sleep(_ENDS_WITHIN_S)
    process.kill()
