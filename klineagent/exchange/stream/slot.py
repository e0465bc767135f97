"""A connection slot: the connections of one stream set, one after another, and their counts."""

from __future__ import annotations

import math

import trio
from attrs import define, field

from klineagent.exchange.stream.connection import StreamConnection
from klineagent.exchange.stream.stream_set import StreamSet


@define(eq=False)
class ConnectionCounts:
    """Counts connections by how they ended, since the start."""

    dials: int = 0
    lost: int = 0
    """Connections that ended on their own, so that another had to be dialled."""
    replaced: int = 0
    """Connections that were closed because another had taken over."""


@define(eq=False)
class ConnectionSlot:
    """The connection that carries `stream_set`, or two while one takes over from the other."""

    stream_set: StreamSet
    totals: ConnectionCounts
    """The sums over all slots."""
    number: int
    connections: list[StreamConnection] = field(factory=list, init=False)
    """The connections that are open or being dialled, the newest last."""
    counts: ConnectionCounts = field(factory=ConnectionCounts, init=False)
    last_loss: str = field(default="", init=False)
    """Why a connection was last lost; empty if none was."""
    lost_at: float = field(default=math.nan, init=False)
    was_up: bool = field(default=False, init=False)
    """Whether the slot was ever connected and then was not."""
    _down_since: float = field(factory=trio.current_time, init=False)
    """When the last connection ended; unused while one is open."""
    _last_kline_at: float = field(default=-math.inf, init=False)
    """When klines last arrived over a connection that has ended since."""

    async def carry(self, connection: StreamConnection) -> None:
        """Run `connection` to its end."""
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
        """Count a connection that ended on its own, for `reason`."""
        self.last_loss, self.lost_at = reason, trio.current_time()
        for counts in (self.counts, self.totals):
            counts.lost += 1

    def count_replacement(self) -> None:
        """Count a connection from which another has taken over."""
        for counts in (self.counts, self.totals):
            counts.replaced += 1

    @property
    def is_up(self) -> bool:
        """Whether a connection is open."""
        return any(connection.is_open for connection in self.connections)

    @property
    def down_s(self) -> float:
        """For how many seconds no connection has been open; 0 while one is."""
        return 0 if self.is_up else trio.current_time() - self._down_since

    @property
    def last_kline_at(self) -> float:
        """When klines last arrived, by Trio's clock; minus infinity if none ever did."""
        return max(
            [
                self._last_kline_at,
                *(connection.dispatcher.last_kline_at for connection in self.connections),
            ]
        )
