"""Klines waiting for the store: the newest state of each candle, and updates in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice

import trio
from attrs import define, field

from klineagent.core.kline import Key, Kline


@define(eq=False, kw_only=True)
class Conflation:
    """The writer's bounded buffer: filled without waiting, emptied in batches.

    A newer state of a candle replaces the older, so memory grows with candles, not with messages.
    While the store is away, closed candles pile up; at `capacity` forming ones are dropped first,
    since they come again, then the oldest closed ones. Dropped rows are counted.
    """

    capacity: int
    full_batch: int
    """So many waiting rows end the wait for a batch to fill."""
    dropped_forming: int = field(default=0, init=False)
    dropped_closed: int = field(default=0, init=False)
    # Not a plain dict: finding its first entry scans all slots of deleted ones.
    _closed: OrderedDict[Key, Kline] = field(factory=OrderedDict, init=False)
    _forming: OrderedDict[Key, Kline] = field(factory=OrderedDict, init=False)
    _has_rows: trio.Event = field(factory=trio.Event, init=False)
    _has_batch: trio.Event = field(factory=trio.Event, init=False)
    ended: trio.Event = field(factory=trio.Event, init=False)
    """Set once no more rows will be put."""

    def __len__(self) -> int:
        return len(self._closed) + len(self._forming)

    @property
    def closed(self) -> int:
        """How many closed candles are waiting."""
        return len(self._closed)

    def holds(self, key: Key) -> bool:
        """Return whether a closed state of that candle is waiting."""
        return key in self._closed

    def closed_rows(self) -> Iterable[Kline]:
        """Return the waiting closed candles."""
        return self._closed.values()

    def put(self, klines: Iterable[Kline]) -> list[Kline]:
        """Add `klines`; the highest version of a candle stays, the last of equal ones.

        Returns:
            The closed candles dropped because the buffer is full.
        """
        for kline in klines:
            key = kline.key
            waiting = self._closed.get(key) or self._forming.get(key)
            if waiting is not None and waiting.version > kline.version:
                continue
            if kline.is_closed:
                self._forming.pop(key, None)
                self._closed[key] = kline
            else:
                self._closed.pop(key, None)
                self._forming[key] = kline
        given_up: list[Kline] = []
        while len(self) > self.capacity:
            given_up += self._give_one_up()
        if len(self):
            self._has_rows.set()
        if len(self) >= self.full_batch:
            self._has_batch.set()
        return given_up

    def end(self) -> None:
        """Announce that no more rows will be put; `take` returns what is left and then ends."""
        self.ended.set()
        self._has_rows.set()
        self._has_batch.set()

    def hurry(self) -> None:
        """Let the next `take` return at once with what there is, even if that is nothing."""
        self._has_rows.set()
        self._has_batch.set()

    async def take(self, *, most: int, within_s: float) -> tuple[Kline, ...]:
        """Take up to `most` rows, closed candles first, in order of arrival.

        It waits for a first row, then at most `within_s` for a full batch.

        Raises:
            trio.EndOfChannel: the buffer has ended and is empty.
        """
        await self._has_rows.wait()
        with trio.move_on_after(within_s):
            await self._has_batch.wait()
        if self.ended.is_set() and not len(self):
            raise trio.EndOfChannel
        return self.take_nowait(most=most)

    def take_nowait(self, *, most: int) -> tuple[Kline, ...]:
        """Take up to `most` rows, closed candles first, without waiting."""
        closed = self.take_closed(most=most)
        taken = closed + self._pop(self._forming, most - len(closed))
        self._note_emptiness()
        return taken

    def take_closed(self, *, most: int) -> tuple[Kline, ...]:
        """Take up to `most` closed candles, without waiting."""
        taken = self._pop(self._closed, most)
        self._note_emptiness()
        return taken

    def rows(self) -> tuple[Kline, ...]:
        """Return all rows, and keep them."""
        return (*self._forming.values(), *self._closed.values())

    def _note_emptiness(self) -> None:
        if self.ended.is_set():
            return
        # Events that are not set stay: a task may be waiting for them.
        if not len(self) and self._has_rows.is_set():
            self._has_rows = trio.Event()
        if len(self) < self.full_batch and self._has_batch.is_set():
            self._has_batch = trio.Event()

    @staticmethod
    def _pop(rows: OrderedDict[Key, Kline], most: int) -> tuple[Kline, ...]:
        return tuple(rows.popitem(last=False)[1] for _ in range(min(most, len(rows))))

    def _give_one_up(self) -> tuple[Kline, ...]:
        if self._forming:
            self.dropped_forming += len(self._pop(self._forming, 1))
            return ()
        self.dropped_closed += 1
        return self._pop(self._closed, 1)


@define(eq=False)
class Updates:
    """Candle states in order of arrival, at most `capacity`: then the oldest are dropped."""

    capacity: int
    dropped: int = field(default=0, init=False)
    _rows: deque[Kline] = field(factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, klines: Iterable[Kline]) -> None:
        """Add states."""
        self._rows.extend(klines)
        for _ in range(len(self._rows) - self.capacity):
            self._rows.popleft()
            self.dropped += 1

    def put_back(self, klines: tuple[Kline, ...]) -> None:
        """Return taken states to the front, as far as there is room."""
        room = max(0, self.capacity - len(self._rows))
        self.dropped += max(0, len(klines) - room)
        self._rows.extendleft(islice(reversed(klines), room))

    def take(self, *, most: int) -> tuple[Kline, ...]:
        """Take up to `most` of the oldest states."""
        return tuple(self._rows.popleft() for _ in range(min(most, len(self._rows))))
