"""How bytes reach the exchange and come back: the one seam that simulations replace."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Protocol

import httpx2
import trio

from klineagent.errors import ExchangeUnreachable, reason_of

# The exchange pings every three minutes (spot: every 20 s) whatever its streams have to say. A peer
# that vanished without a word is noticed by nothing else.
DEAD_AFTER_S = 400


class Network(Protocol):
    """A way to the exchange: the internet, or a twin of the exchange in this process."""

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        """Connect to the host of `url`, with TLS where its scheme is `wss`.

        Raises:
            ExchangeUnreachable: no connection could be made.
        """

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        """A transport for REST requests; the caller closes it."""


class Internet:
    """Real sockets."""

    def __init__(self) -> None:
        self._tls = ssl.create_default_context()

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        """See `Network`."""
        secure = url.scheme == "wss"
        try:
            tcp = await trio.open_tcp_stream(url.host, url.port or (443 if secure else 80))
        except (OSError, UnicodeError) as error:
            raise ExchangeUnreachable(
                f"cannot connect to {url.host}: {reason_of(error)}"
            ) from error
        return await self._secured(tcp, url.host) if secure else tcp

    async def _secured(self, tcp: trio.SocketStream, host: str) -> trio.abc.Stream:
        # Servers of WebSockets often drop the line without a TLS close; that is no attack.
        tls = trio.SSLStream(tcp, self._tls, server_hostname=host, https_compatible=True)
        async with AsyncExitStack() as failed:
            failed.push_async_callback(trio.aclose_forcefully, tcp)
            try:
                await tls.do_handshake()
            except trio.BrokenResourceError as error:
                raise ExchangeUnreachable(f"no TLS with {host}: {reason_of(error)}") from error
            failed.pop_all()
        return tls

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        """See `Network`."""
        return httpx2.AsyncHTTPTransport(verify=self._tls)


class WatchedStream(trio.abc.Stream):
    """A stream that ends when its peer is dead, and tells so those who do not read it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ended = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        with self._told_if_broken():
            with trio.move_on_after(DEAD_AFTER_S) as patience:
                received = await self._stream.receive_some(max_bytes)
            if patience.cancelled_caught:
                raise trio.BrokenResourceError(f"nothing came for {DEAD_AFTER_S} s")
        if not received:
            self.ended.set()
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        with self._told_if_broken():
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()

    @contextmanager
    def _told_if_broken(self) -> Iterator[None]:
        try:
            yield
        except trio.BrokenResourceError:
            self.ended.set()
            raise
