"""TLS of a client that takes all records a read has brought, not one a call.

The exchange puts each frame into a record of its own. `trio.SSLStream` gives one record a call and
lets the scheduler turn once for each, at 40 us; here a record costs 1 us.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

import trio

_READ_BYTES = 64 * 1024
_RECORD_BYTES = 16 * 1024


class TlsStream(trio.abc.Stream):
    """A client's end of TLS over `transport`; the handshake comes first.

    `receive_some` gives all that can be read without waiting, and may be cancelled. It is for one
    task, and so is sending, but both may go on at once.
    """

    def __init__(
        self, transport: trio.abc.Stream, context: ssl.SSLContext, server_hostname: str
    ) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        # What OpenSSL wants to be sent has an order: whoever takes it out sends it first.
        self._sending = trio.Lock()
        self._is_broken = False

    async def do_handshake(self) -> None:
        """Agree on keys.

        Raises:
            trio.BrokenResourceError: the server speaks no TLS, or is not who it should be.
        """
        is_agreed, refusal = False, None
        while not is_agreed:
            try:
                self._tls.do_handshake()
                is_agreed = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                refusal = error
            if refusal is not None:
                await self._complain()
                raise trio.BrokenResourceError(str(refusal)) from refusal
            await self._flush()
            if not is_agreed and not await self._read():
                raise trio.BrokenResourceError("the peer hung up")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`; `max_bytes` is what is read of the wire at most."""
        while True:
            records, is_over = self._drain()
            if records or is_over:
                if not records:
                    await trio.lowlevel.checkpoint()
                return b"".join(records)
            # Who is sending sends that as well, and is not waited for: the peer may read no more
            # before we do.
            if (self._outgoing.pending or self._is_broken) and not self._sending.locked():
                await self._flush()
            await self._read(max_bytes)

    def _drain(self) -> tuple[list[bytes], bool]:
        """What has come, record by record; and whether nothing more will."""
        records: list[bytes] = []
        read = self._tls.read
        try:
            while record := read(_RECORD_BYTES):
                records.append(record)
        except ssl.SSLWantReadError:
            return records, False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # Servers of websockets often hang up without a word of TLS; that is no attack.
            return records, True
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return records, True

    async def _read(self, max_bytes: int | None = None) -> bool:
        """Read once from the wire; False at its end."""
        received = await self._transport.receive_some(max_bytes or _READ_BYTES)
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()
        return bool(received)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        async with self._sending:
            try:
                # OpenSSL takes all of it: a buffer in memory never blocks.
                if len(data):
                    self._tls.write(data)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
            await self._send_pending()

    async def _flush(self) -> None:
        async with self._sending:
            await self._send_pending()

    async def _send_pending(self) -> None:
        """Send what OpenSSL wants to be sent; the peer cannot make sense of a part of it."""
        if self._is_broken:
            raise trio.BrokenResourceError("sending was given up in the middle")
        while self._outgoing.pending:
            self._is_broken = True
            await self._transport.send_all(self._outgoing.read())
            self._is_broken = False

    async def _complain(self) -> None:
        """Tell the server why it is refused, if it still listens."""
        with suppress(trio.BrokenResourceError):
            await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`; without a word of TLS, as the exchange does it."""
        await self._transport.aclose()
