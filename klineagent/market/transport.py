"""How bytes reach the exchange and come back: the one seam that simulations replace."""

from __future__ import annotations

import ssl
from typing import Protocol

import httpx2
import trio

from klineagent.errors import ExchangeUnreachable


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
            if not secure:
                return tcp
            # Servers of WebSockets often drop the line without a TLS close; that is no attack.
            tls = trio.SSLStream(tcp, self._tls, server_hostname=url.host, https_compatible=True)
            await tls.do_handshake()
        except (OSError, trio.BrokenResourceError) as error:
            raise ExchangeUnreachable(f"cannot connect to {url.host}: {error}") from error
        return tls

    def http_transport(self) -> httpx2.AsyncBaseTransport:
        """See `Network`."""
        return httpx2.AsyncHTTPTransport(verify=self._tls)
