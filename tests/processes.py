"""klineagent's own commands as processes, started and stopped as a user would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import trio
from attrs import define, field

from klineagent.core.interval import SECOND_MS
from klineagent.exchange.venues import VENUES

# A second or two; a machine busy with other tests gets much more.
READY_WITHIN_S = 120
KILL_AFTER_S = 60


Event = dict[str, object]


@define(eq=False)
class Running:
    """A klineagent process and the events it has logged."""

    process: trio.Process
    events: list[Event] = field(factory=list)
    _news: trio.Event = field(factory=trio.Event)

    async def logged(self, event: str, *, before: int = 0) -> Event:
        """The event of this name after `before` others of its name; waits for it."""
        while len(found := [each for each in self.events if each["event"] == event]) <= before:
            await self._news.wait()
        return found[before]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end; return the seconds that took."""
        started = trio.current_time()
        self.process.send_signal(number)
        await self.process.wait()
        return trio.current_time() - started

    async def read_log(self) -> None:
        """Collect events until the process closes its log."""
        assert self.process.stderr is not None
        unread = b""
        async for chunk in self.process.stderr:
            *lines, unread = (unread + chunk).split(b"\n")
            self.events += [_event(line) for line in lines]
            self._news.set()
            self._news = trio.Event()


def _event(line: bytes) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError:  # not a log line, but perhaps why there is none
        return {"event": "", "text": line.decode(errors="replace")}
    return event


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Running]:
    """Run `klineagent ARGUMENTS --log-format json` while the block lasts."""
    command = [sys.executable, "-m", "klineagent", *arguments, "--log-format", "json"]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
        each = Running(process)
        nursery.start_soon(each.read_log)
        try:
            yield each
        finally:
            if process.poll() is None:
                process.terminate()
            with trio.move_on_after(KILL_AFTER_S, shield=True) as patience:
                await process.wait()
            if patience.cancelled_caught:
                process.kill()


@asynccontextmanager
async def running_twin(*arguments: str) -> AsyncIterator[tuple[Running, Event]]:
    """`klineagent simulate` on a free port, and what it says of itself."""
    async with running("simulate", "--bind", "127.0.0.1:0", *arguments) as twin:
        with trio.fail_after(READY_WITHIN_S):
            told = await twin.logged("exchange_twin")
        yield twin, told


@asynccontextmanager
async def running_agent(
    twin: Event, store: str, *symbols: str, options: Sequence[str] = ()
) -> AsyncIterator[tuple[Running, Event]]:
    """`klineagent serve` against a twin, and the event that tells its addresses."""
    async with starting_agent(twin, store, *symbols, options=options) as agent:
        with trio.fail_after(READY_WITHIN_S):
            listening = await agent.logged("listening")
        yield agent, listening


def starting_agent(
    twin: Event, store: str, *symbols: str, options: Sequence[str] = ()
) -> AbstractAsyncContextManager[Running]:
    """The same from its first moment on; it keeps nothing on disk unless `options` name a place."""
    addresses = [
        *("--ws-url", str(twin["ws_url"]), "--rest-url", str(twin["rest_url"])),
        *("--command-bind", "127.0.0.1:0", "--status-bind", "127.0.0.1:0"),
        *("--read-bind", "127.0.0.1:0"),
    ]
    # The default of a server's is a folder where the tests run.
    where = ("--store", store, "--spool", "none", "--state", "none")
    return running("serve", *symbols, *addresses, *where, *options)


async def exchange_time_ms(twin: Event) -> int:
    """What the twin's clock says."""
    async with httpx2.AsyncClient(base_url=str(twin["rest_url"])) as client:
        path = VENUES[str(twin["venue"])].time_path
        time_ms: int = (await client.get(path)).json()["serverTime"]
        return time_ms


async def time_passed(twin: Event, duration_ms: int) -> None:
    """Wait until that much exchange time has passed."""
    until_ms = await exchange_time_ms(twin) + duration_ms
    speed = float(str(twin["speed"]))
    # The twin is another process: there is no event of ours to wait for.
    while (left_ms := until_ms - await exchange_time_ms(twin)) > 0:  # noqa: ASYNC110
        await trio.sleep(left_ms / SECOND_MS / speed)
