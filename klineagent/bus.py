"""Klines on their way from the exchange to all who read them: the writer, and live readers.

Connections and backfill publish; each subscriber says what happens when it is slow:

- the writer is waited for. Its channel is bounded, and it takes rows promptly whatever the database
  does, so intake waits for milliseconds at the most;
- a `Conflation` (of the writer's buffer) keeps the newest state of each candle;
- a `Recent` keeps rows in order, and the oldest make room. What was dropped is counted;
- a `Follower` also gets the frames in which rows came.

Only the writer is ever waited for. Without other subscribers, publishing costs no more than sending
to its channel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import trio
from attrs import define, field

from klineagent.core.kline import Kline

# The writer empties its channel whenever it runs, so this is never reached.
TAKEN_WITHIN_S = 60.0


class Subscriber(Protocol):
    """Takes rows without waiting, and bounds what it keeps of them."""

    def put(self, klines: Sequence[Kline], /) -> object:
        """Take `klines`; makes room by its own policy."""


class Follower(Protocol):
    """Takes rows without waiting, with the exchange's own words for them."""

    def follow(self, klines: Sequence[Kline], frames: Sequence[bytes], /) -> None:
        """Take `klines` and the frame of each; without frames they were fetched."""


@define(eq=False)
class Recent:
    """Rows in the order they were published, at most `capacity`: then the oldest make room."""

    capacity: int
    dropped: int = field(default=0, init=False)
    _rows: deque[Kline] = field(factory=deque, init=False)
    _has_rows: trio.Event = field(factory=trio.Event, init=False)

    def put(self, klines: Sequence[Kline]) -> None:
        """Take `klines`."""
        self._rows.extend(klines)
        for _ in range(len(self._rows) - self.capacity):
            self._rows.popleft()
            self.dropped += 1
        self._has_rows.set()

    async def take(self) -> list[Kline]:
        """Wait for rows, and return all there are."""
        await self._has_rows.wait()
        rows = [*self._rows]
        self._rows.clear()
        self._has_rows = trio.Event()
        return rows


@define(eq=False)
class Bus:
    """Hands every published row to all subscribers and to the channel of the writer."""

    _writer: trio.MemorySendChannel[list[Kline]]
    _subscribers: tuple[Subscriber, ...] = field(default=(), init=False)
    _followers: tuple[Follower, ...] = field(default=(), init=False)

    async def publish(self, klines: list[Kline], frames: Sequence[bytes] = ()) -> None:
        """Hand on `klines`; all subscribers have them when this returns, cancelled or not.

        Callers account for the rows first: the writer may give some up, and so have them fetched
        again, before this returns. Unless its channel is full there is no checkpoint in here.

        Raises:
            trio.TooSlowError: the writer takes nothing, which only a fault of its own explains.
        """
        try:
            # First: a fault of a reader must lose no row.
            self._writer.send_nowait(klines)
        except trio.WouldBlock:
            try:
                self._tell(klines, frames)
            finally:
                with trio.fail_after(TAKEN_WITHIN_S, shield=True):
                    await self._writer.send(klines)
        else:
            self._tell(klines, frames)

    def _tell(self, klines: list[Kline], frames: Sequence[bytes]) -> None:
        for subscriber in self._subscribers:
            subscriber.put(klines)
        for follower in self._followers:
            follower.follow(klines, frames)

    @contextmanager
    def subscribed(self, subscriber: Subscriber) -> Iterator[None]:
        """`subscriber` gets what is published within the block."""
        self._subscribers += (subscriber,)
        try:
            yield
        finally:
            self._subscribers = tuple(each for each in self._subscribers if each is not subscriber)

    @contextmanager
    def followed(self, follower: Follower) -> Iterator[None]:
        """`follower` gets what is published within the block."""
        self._followers += (follower,)
        try:
            yield
        finally:
            self._followers = tuple(each for each in self._followers if each is not follower)
