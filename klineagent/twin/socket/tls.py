"""TLS as the exchange uses it: each websocket frame in a record of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import trio

from klineagent.core.errors import ConfigError

_RECEIVED_AT_ONCE = 16 * 1024
# Bits of a first byte that are never set in our frames and always in letters, as in "HTTP".
_RESERVED = 0x70
# The length is in the second byte, or in the two or eight bytes after it.
_MEDIUM, _LARGE = 126, 127


class TlsServerStream(trio.abc.Stream):
    """The server's end of TLS over `transport`; the first read performs the handshake.

    Many records are sent at once: a record costs about 1 us, a send about 30.
    """

    def __init__(self, transport: trio.abc.Stream, context: ssl.SSLContext) -> None:
        self.transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # Records must be sent in the order in which they were made.
        self._sending = trio.Lock()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        while True:
            trouble = None
            try:
                return self._tls.read(max_bytes or _RECEIVED_AT_ONCE)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLEOFError:
                # Clients close without a TLS close_notify.
                return b""
            except ssl.SSLError as error:
                trouble = error
            # Send handshake data, or the alert that explains the failure.
            await self._flush()
            if trouble is not None:
                raise trio.BrokenResourceError(str(trouble)) from trouble
            received = await self.transport.receive_some(max_bytes)
            if received:
                self._incoming.write(received)
            else:
                self._incoming.write_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`; `data` is whole frames, or anything else in one piece."""
        async with self._sending:
            write = self._tls.write
            try:
                for piece in _pieces(data):
                    write(piece)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
            await self.transport.send_all(self._outgoing.read())

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self.transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`; without close_notify, as websocket servers do."""
        await self.transport.aclose()

    async def _flush(self) -> None:
        """Send TLS's own data: handshake and alerts."""
        if self._outgoing.pending:
            async with self._sending:
                await self.transport.send_all(self._outgoing.read())


def _pieces(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """Split data into records: one per frame; data that is no frame goes into one."""
    view, start, end = memoryview(data), 0, len(data)
    while start < end:
        if view[start] & _RESERVED:
            yield view[start:]
            return
        size, head = view[start + 1], 2
        if size == _MEDIUM:
            size, head = view[start + 2] << 8 | view[start + 3], 4
        elif size == _LARGE:
            size, head = int.from_bytes(view[start + 2 : start + 10]), 10
        stop = start + head + size
        yield view[start:stop]
        start = stop


def open_tls(identity: Path) -> ssl.SSLContext:
    """Create a server's TLS context from one file with its key and certificate chain.

    Raises:
        ConfigError: the file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(identity)
    except OSError as error:
        raise ConfigError(f"--tls: no key and certificate in {identity}: {error}") from error
    return context
