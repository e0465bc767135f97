"""The connections of one stream_set, one after another, and what became of them."""

from __future__ import annotations

import math

import trio
from attrs import define, field

from klineagent.exchange.stream.connection import StreamConnection
from klineagent.exchange.stream.subscriptions import StreamSet


@define(eq=False)
class ConnectionCounts:
    """What became of all connections so far."""

    dials: int = 0
    lost: int = 0
    """Ended on their own, so that another had to be dialled."""
    replaced: int = 0
    """Gave way to another that had taken over."""


@define(eq=False)
class ConnectionSlot:
    """The connection that carries `stream_set`, or two while one takes over from the other."""

    stream_set: StreamSet
    totals: ConnectionCounts
    """Of all slots."""
    number: int
    connections: list[StreamConnection] = field(factory=list, init=False)
    """Those that are there, or being dialled; the newest is last."""
    counts: ConnectionCounts = field(factory=ConnectionCounts, init=False)
    last_loss: str = field(default="", init=False)
    """Why the last connection was lost that was."""
    lost_at: float = field(default=math.nan, init=False)
    was_up: bool = field(default=False, init=False)
    """Whether there has ever been a connection that has ended since."""
    _down_since: float = field(factory=trio.current_time, init=False)
    """When the last connection ended; of no account while there is one."""
    _last_kline_at: float = field(default=-math.inf, init=False)
    """When a connection that has ended brought its last klines."""

    async def carry(self, connection: StreamConnection) -> None:
        """Let `connection` run to its end."""
        self.connections.append(connection)
        for counts in (self.counts, self.totals):
            counts.dials += 1
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            self._last_kline_at = max(self._last_kline_at, connection.dispatcher.last_kline_at)
            if connection.connected_at is not None and not self.is_up:
                self.was_up, self._down_since = True, trio.current_time()

    def count_loss(self, reason: str) -> None:
        """The last connection is gone, and not because another has taken over."""
        self.last_loss, self.lost_at = reason, trio.current_time()
        for counts in (self.counts, self.totals):
            counts.lost += 1

    def count_replacement(self) -> None:
        """A connection has taken over from the one before it."""
        for counts in (self.counts, self.totals):
            counts.replaced += 1

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return any(connection.is_open for connection in self.connections)

    @property
    def down_s(self) -> float:
        """How long there has been no connection; 0 while there is one."""
        return 0 if self.is_up else trio.current_time() - self._down_since

    @property
    def last_kline_at(self) -> float:
        """When klines last came; minus infinity if none ever did."""
        return max(
            [
                self._last_kline_at,
                *(connection.dispatcher.last_kline_at for connection in self.connections),
            ]
        )
