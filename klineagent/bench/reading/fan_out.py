"""Many clients that listen to the same streams."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from selectors import EVENT_READ, DefaultSelector
from socket import create_connection, socket

from attrs import define, field
from msgspec import Struct

_EVENT = b'"e":"kline"'
_HEAD_END = b"\r\n\r\n"
_READ_BYTES = 256 * 1024


class Delivered(Struct, frozen=True, kw_only=True):
    """What came within the window."""

    clients: int
    messages: int
    seconds: float
    cut: int
    """How many clients the agent has disconnected."""
    cpu_s: float
    """CPU time of the clients' process."""


class FanOutLoad(Struct, frozen=True, kw_only=True, tag=True):
    """Counts events without reading them: bytes are searched, at a gigabyte a second."""

    server: str
    """Address of the read server."""
    clients: int
    streams: tuple[str, ...]
    warm_up_s: float
    """Time before the window in which messages are not counted."""
    seconds: float

    async def run(self) -> Delivered:
        """Listen, and return what came in the window."""
        # Nothing else runs in this process, so nothing is blocked.
        with ExitStack() as opened:
            clients = [self._listen(opened) for _ in range(self.clients)]
            began_at = time.perf_counter() + self.warm_up_s
            cut = _take(clients, until=began_at)
            before, cpu_s = sum(each.messages for each in clients), time.process_time()
            cut += _take(clients, until=began_at + self.seconds)
            return Delivered(
                clients=self.clients,
                messages=sum(each.messages for each in clients) - before,
                seconds=time.perf_counter() - began_at,
                cut=cut,
                cpu_s=time.process_time() - cpu_s,
            )

    def _listen(self, opened: ExitStack) -> _Listener:
        host, _, port = self.server.rpartition(":")
        line = opened.enter_context(create_connection((host, int(port))))
        line.sendall(
            f"GET /market/ws/{'/'.join(self.streams)} HTTP/1.1\r\nHost: {self.server}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while _HEAD_END not in head:
            if not (part := line.recv(_READ_BYTES)):
                raise OSError("the agent hung up")
            head += part
        if b" 101 " not in head[:16]:
            raise OSError(head.partition(b"\r\n")[0].decode(errors="replace"))
        listener = _Listener(line)
        listener.count(head.partition(_HEAD_END)[2])
        return listener


@define(eq=False)
class _Listener:
    """One client; nothing it gets is kept but what may be the beginning of a searched text."""

    line: socket
    messages: int = field(default=0, init=False)
    _rest: bytes = field(default=b"", init=False)

    def count(self, data: bytes) -> None:
        data = self._rest + data
        self.messages += data.count(_EVENT)
        self._rest = data[1 - len(_EVENT) :]


def _take(clients: Iterable[_Listener], until: float) -> int:
    """Read whatever comes until a time; return how many clients were disconnected."""
    cut = 0
    with DefaultSelector() as selector:
        for each in clients:
            selector.register(each.line, EVENT_READ, each)
        while (left := until - time.perf_counter()) > 0:
            for key, _ in selector.select(left):
                if data := key.data.line.recv(_READ_BYTES):
                    key.data.count(data)
                else:
                    selector.unregister(key.fileobj)
                    cut += 1
    return cut
