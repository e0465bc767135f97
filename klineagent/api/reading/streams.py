"""The read server's websockets: streams of klines, as the exchange serves them."""

from __future__ import annotations

from contextlib import ExitStack

import trio
from attrs import define

from klineagent.api.guard import Guard, RequestHead
from klineagent.api.server.upgrade import Upgrade
from klineagent.core.errors import RequestError
from klineagent.reading.streams.hub import StreamHub
from klineagent.reading.streams.path import read_path, token_in
from klineagent.reading.streams.socket import StreamSocket


@define
class StreamRoutes:
    """Lets clients listen to streams, as far as the guard of the read server lets them in."""

    hub: StreamHub
    guard: Guard

    async def __call__(self, upgrade: Upgrade) -> None:
        """Answer a request for a websocket; serve it until either side closes it."""
        with ExitStack() as room:
            try:
                # Before the path: an unauthorized client does not even learn which ones exist.
                self._check(upgrade)
                room.enter_context(self.hub.reserved())
                path = read_path(upgrade.target)
                wsproto = await upgrade.accept()
            except RequestError as error:
                room.close()
                await upgrade.refuse(error)
                return
            except trio.TooSlowError:
                return  # the client does not read
            socket = StreamSocket(stream=upgrade.stream, wsproto=wsproto, hub=self.hub, path=path)
            await socket.serve()

    def _check(self, upgrade: Upgrade) -> None:
        path, _, _ = upgrade.target.partition("?")
        token = token_in(upgrade.target)
        self.guard.check(
            RequestHead(
                path=path,
                authorization=upgrade.header("Authorization") or (token and f"Bearer {token}"),
                host=upgrade.header("Host"),
                origin=upgrade.header("Origin"),
                fetch_site=upgrade.header("Sec-Fetch-Site"),
            )
        )
