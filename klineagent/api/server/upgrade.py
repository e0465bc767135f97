"""Where an HTTP connection becomes a websocket: the handshake, and its refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import h11
import msgspec
import trio
from attrs import frozen
from wsproto.connection import Connection, ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from klineagent.api.models.contract import Error
from klineagent.core.errors import InvalidRequest, RequestError, Unauthorized

ANSWERED_WITHIN_S = 3


@frozen(eq=False)
class Upgrade:
    """A request for a websocket, and the connection that is to become one."""

    request: h11.Request
    early: bytes
    """What the client sent after the request."""
    stream: trio.abc.Stream

    @property
    def target(self) -> str:
        """Path and query."""
        return self.request.target.decode("latin1")

    def header(self, name: str) -> str:
        """Return the value of a header; empty if it is absent."""
        wanted = name.lower().encode()
        values = (value for header, value in self.request.headers if header == wanted)
        return next(values, b"").decode("latin1")

    async def accept(self) -> Connection:
        """Shake hands; no extension is agreed to, so that frames can be shared by clients.

        Raises:
            InvalidRequest: the request is no correct handshake.
        """
        handshake = H11Handshake(ConnectionType.SERVER)
        try:
            handshake.initiate_upgrade_connection(list(self.request.headers), self.request.target)
            hello = handshake.send(AcceptConnection())
        except RemoteProtocolError as error:
            raise InvalidRequest(f"not a websocket handshake: {error}") from error
        with trio.fail_after(ANSWERED_WITHIN_S):
            await self.stream.send_all(hello)
        return Connection(ConnectionType.SERVER, trailing_data=self.early)

    async def refuse(self, error: RequestError) -> None:
        """Answer that there will be no websocket."""
        body = msgspec.json.encode(Error(str(error)))
        status = HTTPStatus(error.http_status)
        head = [
            f"HTTP/1.1 {status} {status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if isinstance(error, Unauthorized):
            head.append('WWW-Authenticate: Bearer realm="klineagent"')
        with trio.move_on_after(ANSWERED_WITHIN_S):
            await self.stream.send_all("\r\n".join([*head, "", ""]).encode() + body)


HandleSocket = Callable[[Upgrade], Awaitable[None]]
"""A function that answers requests for websockets, and serves those it accepts."""


def wants_socket(request: h11.Request) -> bool:
    """Whether a request asks for a websocket."""
    return any(
        name == b"upgrade" and value.strip().lower() == b"websocket"
        for name, value in request.headers
    )
