"""All clients connected to the exchange, and outages that affect them together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.wire import StreamEvent

# Documented for spot, assumed for futures.
_ATTEMPTS = 300
_ATTEMPTS_WITHIN_S = 300


@define(kw_only=True, eq=False)
class ClientConnections:
    """The connected clients of one exchange, in the order in which they connected."""

    breaches: Counter[str] = field(factory=Counter)
    """Breaches: limits that clients broke, by kind."""
    clients: dict[ClientConnection, None] = field(init=False, factory=dict)
    changes: int = field(init=False, default=0)
    """How often a client has connected or disconnected."""
    _links: dict[trio.CancelScope, None] = field(init=False, factory=dict)
    _outages: int = field(init=False, default=0)
    _online: trio.Event = field(init=False, factory=trio.Event)
    _attempts: deque[float] = field(init=False, factory=deque)

    def __attrs_post_init__(self) -> None:
        self._online.set()

    @property
    def is_online(self) -> bool:
        """Whether connections can be opened."""
        return self._online.is_set()

    async def until_online(self) -> None:
        """Wait for the end of an outage."""
        await self._online.wait()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Simulate an outage: connections are reset, none can be opened. Outages may overlap."""
        self._outages += 1
        if self._outages == 1:
            self._online = trio.Event()
        for link in self._links:
            link.cancel(reason="the exchange went offline")
        try:
            yield
        finally:
            self._outages -= 1
            if not self._outages:
                self._online.set()

    @contextmanager
    def cutting(self, link: trio.CancelScope) -> Iterator[None]:
        """Let outages cancel `link` in this block, including one that has already begun."""
        self._links[link] = None
        if not self.is_online:
            link.cancel(reason="the exchange is offline")
        try:
            yield
        finally:
            del self._links[link]

    @contextmanager
    def connected(self, client: ClientConnection) -> Iterator[None]:
        """Count `client` among the clients while the block lasts."""
        self.clients[client] = None
        self.changes += 1
        try:
            yield
        finally:
            del self.clients[client]
            self.changes += 1

    def attempted(self) -> None:
        """Count an attempt to open a websocket, successful or not."""
        now_s = trio.current_time()
        while self._attempts and self._attempts[0] <= now_s - _ATTEMPTS_WITHIN_S:
            self._attempts.popleft()
        self._attempts.append(now_s)
        if len(self._attempts) > _ATTEMPTS:
            self.breaches["connection_attempts"] += 1

    def broadcast(self, event: StreamEvent) -> None:
        """Send `event` to all clients, whatever they are subscribed to."""
        for client in self.clients:
            client.send(event.framed(combined=client.protocol.combined))
