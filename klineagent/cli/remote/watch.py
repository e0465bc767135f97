"""`klineagent watch`: follows a running agent, full-screen or as lines for a pipe."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import NoReturn

import trio
from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from klineagent.api.models.jobs import JobNow
from klineagent.cli.remote.connection import Address, AgentConnection, open_connection
from klineagent.cli.remote.exchange_views import feeds_table, messages_rate
from klineagent.cli.remote.job_views import progress_text, state_text, what
from klineagent.cli.remote.snapshot import Snapshot, events_between, take_snapshot
from klineagent.cli.remote.views import coverage_view, status_view
from klineagent.core.errors import AgentError

KEPT_EVENTS = 200
_HEAD_LINES = 7
_TABLE_LINES = 5
"""Around the rows of a table."""
_KEYS_AT_ONCE = 64


@frozen
class Event:
    """An event, and when it was seen."""

    at: datetime
    text: str

    def __str__(self) -> str:
        """Format the event as a line."""
        return f"{self.at:%H:%M:%S} {self.text}"


@define(eq=False)
class Watched:
    """The agent's last known state, and its recent events."""

    snapshot: Snapshot
    trouble: str = field(default="", init=False)
    """Why the snapshot is out of date; empty while it is current."""
    events: deque[Event] = field(factory=lambda: deque(maxlen=KEPT_EVENTS), init=False)
    """Recent events, newest first."""

    def see(self, snapshot: Snapshot) -> list[Event]:
        """Take the current snapshot, and return the events since the last one."""
        texts = list(events_between(self.snapshot, snapshot))
        if self.trouble:
            texts.insert(0, "the agent answers again")
        self.snapshot, self.trouble = snapshot, ""
        return self._record(texts)

    def miss(self, error: AgentError) -> list[Event]:
        """Note that the agent did not answer, and return the event for it if that is new."""
        is_new, self.trouble = not self.trouble, str(error)
        return self._record([self.trouble] if is_new else [])

    def _record(self, texts: list[str]) -> list[Event]:
        events = [Event(datetime.now(UTC), text) for text in texts]
        self.events.extendleft(events)
        return events


Show = Callable[[Watched, list[Event]], None]


async def watch_agent(address: Address, *, every_s: float, console: Console) -> None:
    """Show the agent until q, Ctrl-C or SIGTERM.

    Raises:
        AgentError: the first call failed; later failures are shown, and calls go on.
    """
    async with open_connection(address) as connection:
        watched = Watched(await take_snapshot(connection))
        with (
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
            _shown(console, address) as show,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_by_signal, signals, nursery.cancel_scope)
                if console.is_terminal and sys.stdin.isatty():
                    nursery.start_soon(_end_by_key, nursery.cancel_scope)
                await _follow(watched, connection, every_s, show)


async def _follow(
    watched: Watched, connection: AgentConnection, every_s: float, show: Show
) -> NoReturn:
    show(watched, [])
    while True:
        await trio.sleep(every_s)
        try:
            snapshot = await take_snapshot(connection, watched.snapshot.next)
        except AgentError as error:
            show(watched, watched.miss(error))
        else:
            show(watched, watched.see(snapshot))


async def _end_by_signal(signals: AsyncIterable[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel(reason="seen enough")


async def _end_by_key(scope: trio.CancelScope) -> None:
    descriptor = sys.stdin.fileno()
    keys = b" "
    while keys and b"q" not in keys.lower():  # no keys: the terminal is gone
        await trio.lowlevel.wait_readable(descriptor)
        keys = os.read(descriptor, _KEYS_AT_ONCE)
    scope.cancel(reason="seen enough")


@contextmanager
def _shown(console: Console, address: Address) -> Iterator[Show]:
    """Yield the function that shows a state: full-screen on a terminal, otherwise as lines."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with _key_by_key(), Live(console=console, screen=True, auto_refresh=False) as live:
        yield _Screen(address, live)


@contextmanager
def _key_by_key() -> Iterator[None]:
    """Make the terminal deliver each key at once, without echo."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@frozen
class _Screen:
    address: Address
    live: Live

    def __call__(self, watched: Watched, _events: list[Event]) -> None:
        height = self.live.console.height
        self.live.update(screen(watched, title=self.address.label, height=height), refresh=True)


@frozen
class _Lines:
    console: Console

    def __call__(self, watched: Watched, events: list[Event]) -> None:
        for event in events:
            self.console.print(Text(str(event)))
        if not watched.trouble:
            self.console.print(Text(str(Event(datetime.now(UTC), line(watched.snapshot)))))


def line(snapshot: Snapshot) -> str:
    """Render the agent's state in one line."""
    rest = snapshot.limits.rest
    up = sum(each.state != "down" for each in snapshot.feeds.feeds)
    return (
        f"streams={snapshot.streams} symbols={snapshot.symbols}"
        f" feeds={up}/{len(snapshot.feeds.feeds)} messages_per_second="
        f"{messages_rate(snapshot.feeds):.0f} behind={snapshot.incomplete}"
        f" missing={snapshot.missing} weight={rest.used}/{rest.limit}"
        + (f" jobs={len(snapshot.jobs)}" if snapshot.jobs else "")
    )


def _job_line(job: JobNow) -> str:
    return f"job       {state_text(job)}: {what(job)}: {progress_text(job)}"


def screen(watched: Watched, *, title: str, height: int) -> RenderableType:
    """Render the state in `height` lines: totals, lagging series, connections, newest events.

    The last three share the lines that the totals leave; a part that needs fewer gives the rest
    to the others.
    """
    snapshot = watched.snapshot
    head = Table.grid(expand=True)
    head.add_column()
    head.add_column(justify="right")
    head.add_row(Text(f"klineagent at {title}", style="bold"), f"{datetime.now(UTC):%H:%M:%S} UTC")
    trouble = [Text(watched.trouble, style="red", overflow="ellipsis", no_wrap=True)]
    parts: list[RenderableType] = [
        head,
        status_view(
            snapshot.streams,
            snapshot.symbols,
            feeds=snapshot.feeds,
            limits=snapshot.limits,
            storage=snapshot.storage,
        ),
        *(trouble if watched.trouble else []),
    ]
    jobs = [Text(_job_line(each), overflow="ellipsis", no_wrap=True) for each in snapshot.jobs[:1]]
    parts += jobs
    room = height - _HEAD_LINES - len(trouble) - len(jobs)
    sizes = (len(snapshot.behind), len(snapshot.feeds.feeds), len(watched.events))
    tables = sum(_TABLE_LINES for size in sizes[:2] if size)
    behind, feeds, events = _shares(room - tables, sizes)
    if behind:
        parts.append(coverage_view(snapshot.behind[:behind], with_spans=False))
    if feeds:
        by_trouble = sorted(snapshot.feeds.feeds, key=lambda each: each.state == "up")
        parts.append(feeds_table(by_trouble[:feeds], is_cut=True))
    parts += [
        Text(str(each), overflow="ellipsis", no_wrap=True)
        for each in islice(watched.events, events)
    ]
    return Group(*parts)


def _shares(room: int, sizes: tuple[int, ...]) -> list[int]:
    """Divide `room` rows among parts: small parts get what they need, the others equal shares."""
    shares = [0] * len(sizes)
    left = max(room, 0)
    for done, at in enumerate(sorted(range(len(sizes)), key=lambda each: sizes[each])):
        shares[at] = min(sizes[at], left // (len(sizes) - done))
        left -= shares[at]
    return shares
