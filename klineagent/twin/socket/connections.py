"""Everyone who is connected to the exchange, and what happens to all of them at once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.wire import StreamEvent

# What is documented of spot, and assumed of futures.
_ATTEMPTS = 300
_ATTEMPTS_WITHIN_S = 300


@define(kw_only=True, eq=False)
class ClientConnections:
    """The sockets of one exchange, in the order they were made."""

    breaches: Counter[str] = field(factory=Counter)
    """Limits that clients broke, by kind."""
    clients: dict[ClientConnection, None] = field(init=False, factory=dict)
    changes: int = field(init=False, default=0)
    """How often a client has come or gone."""
    _links: dict[trio.CancelScope, None] = field(init=False, factory=dict)
    _outages: int = field(init=False, default=0)
    _online: trio.Event = field(init=False, factory=trio.Event)
    _attempts: deque[float] = field(init=False, factory=deque)

    def __attrs_post_init__(self) -> None:
        self._online.set()

    @property
    def is_online(self) -> bool:
        """Whether connections can be made."""
        return self._online.is_set()

    async def until_online(self) -> None:
        """Wait for the end of an outage."""
        await self._online.wait()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """An outage: connections break without a word, and none can be made. They may overlap."""
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
        """An outage cancels `link` in here; so does one that has begun already."""
        self._links[link] = None
        if not self.is_online:
            link.cancel(reason="the exchange is offline")
        try:
            yield
        finally:
            del self._links[link]

    @contextmanager
    def listening(self, client: ClientConnection) -> Iterator[None]:
        """`client` hears its streams in here."""
        self.clients[client] = None
        self.changes += 1
        try:
            yield
        finally:
            del self.clients[client]
            self.changes += 1

    def attempted(self) -> None:
        """Count an attempt to open a stream socket, whatever becomes of it."""
        now_s = trio.current_time()
        while self._attempts and self._attempts[0] <= now_s - _ATTEMPTS_WITHIN_S:
            self._attempts.popleft()
        self._attempts.append(now_s)
        if len(self._attempts) > _ATTEMPTS:
            self.breaches["connection_attempts"] += 1

    def broadcast(self, event: StreamEvent) -> None:
        """Send `event` to all, whatever they are subscribed to."""
        for client in self.clients:
            client.send(event.framed(combined=client.protocol.combined))
