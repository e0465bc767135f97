"""Every state of every candle on its way to the store, where that is wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from attrs import define, field

from klineagent.core.kline import Kline


@define(eq=False)
class Updates:
    """States in the order they came, at most `capacity` of them: then the oldest are given up."""

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
        """Add states that were taken and could not be kept, as far as there is room."""
        room = max(0, self.capacity - len(self._rows))
        self.dropped += max(0, len(klines) - room)
        self._rows.extendleft(islice(reversed(klines), room))

    def take(self, *, most: int) -> tuple[Kline, ...]:
        """The oldest states, or none."""
        return tuple(self._rows.popleft() for _ in range(min(most, len(self._rows))))
