"""A cheap HTTP client, so that on two cores the server is measured and not its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio
from attrs import define, field, frozen

HTTP_ERRORS = (
    h11.ProtocolError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
_READ_BYTES = 256 * 1024


@frozen
class HttpAnswer:
    """An answer in full."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


@define(eq=False)
class HttpClient:
    """One connection that is kept, and opened again where the server has closed it."""

    _server: str
    """Host and port."""
    _http: h11.Connection = field(init=False)
    _stream: trio.SocketStream | None = field(default=None, init=False)

    async def get(self, target: str) -> HttpAnswer:
        """Send a GET request, and read the answer.

        Raises:
            OSError, h11.ProtocolError, trio.BrokenResourceError: there is none, see `HTTP_ERRORS`.
        """
        head = await self.begin(target)
        parts = []
        while part := await self.part():
            parts.append(part)
        return HttpAnswer(head.status_code, dict(head.headers), b"".join(parts))

    async def begin(self, target: str) -> h11.Response:
        """Send a GET request, and read the head of the answer."""
        is_kept = self._stream is not None
        try:
            return await self._begin(target)
        except HTTP_ERRORS:
            # The server may close an idle connection just now; on a new one it is an answer.
            if not is_kept:
                raise
            return await self._begin(target)

    async def part(self) -> bytes:
        """Read some of the body; nothing at its end."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            await self.aclose()
        return b""

    async def aclose(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _begin(self, target: str) -> h11.Response:
        if self._stream is None:
            host, _, port = self._server.rpartition(":")
            self._stream = await trio.open_tcp_stream(host, int(port))
            self._http = h11.Connection(h11.CLIENT)
        request = h11.Request(method="GET", target=target, headers=[("Host", self._server)])
        try:
            head = self._http.send(request) or b""
            await self._stream.send_all(head + (self._http.send(h11.EndOfMessage()) or b""))
            event = await self._event()
            if not isinstance(event, h11.Response):
                raise h11.RemoteProtocolError("the server hung up")
        except HTTP_ERRORS:
            await self.aclose()
            raise
        return event

    async def _event(self) -> Any:
        assert self._stream is not None  # noqa: S101 - `_begin` has opened it
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(_READ_BYTES)))
        return event


@asynccontextmanager
async def open_http_client(server: str) -> AsyncIterator[HttpClient]:
    """Have a client of `server`, host and port, as long as the block lasts."""
    client = HttpClient(server)
    try:
        yield client
    finally:
        await client.aclose()
