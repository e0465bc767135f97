"""Access to the exchange over the network: the one seam that simulations replace."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from typing import Protocol

import httpx2
import trio

from klineagent.core.errors import ConfigError, ExchangeUnreachable, reason_of
from klineagent.exchange.stream.tls import TlsStream


class Network(Protocol):
    """A network that reaches the exchange: the internet, or the twin in this process."""

    async def open_stream(self, url: httpx2.URL) -> trio.abc.Stream:
        """Connect to the host of `url`, with TLS where its scheme is `wss`.

        Raises:
            ExchangeUnreachable: no connection could be made.
        """

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        """Return a transport for REST requests; the caller closes it."""


class Internet:
    """The internet: real sockets."""

    def __init__(self, ca_file: str | None = None) -> None:
        """Trust the system's certificate authorities, and those in `ca_file` (PEM).

        Raises:
            ConfigError: the file cannot be read or holds no certificate.
        """
        self._tls = ssl.create_default_context()
        if ca_file is not None:
            try:
                self._tls.load_verify_locations(ca_file)
            except OSError as error:
                is_read = isinstance(error, ssl.SSLError)
                reason = "it holds no certificate as PEM" if is_read else error.strerror
                raise ConfigError(f"ca_file: {ca_file}: {reason}") from error

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
        tls = TlsStream(tcp, self._tls, server_hostname=host)
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
