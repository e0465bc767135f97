"""A model of public caching proxies for bots: what is asked again before the next close is cached.

    python -m klineagent.bench.bots.proxy UPSTREAM AHEAD-MS

Equal requests for the newest klines, or for exchangeInfo, are forwarded once until the next minute
begins; equal ones under way share an answer; all others are forwarded. It reports `ready` with its
address; GET /forwarded there answers with the number of forwarded requests.
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from http import HTTPStatus

import h11
import trio
from attrs import define, field

from klineagent.bench.child import emit
from klineagent.bench.reading.http_client import HTTP_ERRORS, HttpAnswer, HttpClient
from klineagent.core.interval import MINUTE_MS, SECOND_MS

_BAD_GATEWAY = HttpAnswer(502, {}, b"")
_PASSED_ON = (b"content-type", b"x-mbx-used-weight-1m", b"retry-after")


@define(eq=False)
class CachingProxy:
    """Answers from its cache, or asks upstream."""

    _upstream: str
    """Host and port."""
    _ahead_ms: float
    forwarded: int = field(default=0, init=False)
    _minute: int = field(default=0, init=False)
    _cached: dict[str, HttpAnswer] = field(factory=dict, init=False)
    _under_way: dict[str, trio.Event] = field(factory=dict, init=False)
    _idle: list[HttpClient] = field(factory=list, init=False)

    async def answer(self, target: str) -> HttpAnswer:
        """Answer a GET request."""
        if target == "/forwarded":
            return HttpAnswer(200, {}, b"%d" % self.forwarded)
        while (answer := self._fresh(target)) is None and target in self._under_way:
            await self._under_way[target].wait()
        return answer or await self._asked(target)

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await self._idle.pop().aclose()

    def _fresh(self, target: str) -> HttpAnswer | None:
        minute = int(time.time() * SECOND_MS + self._ahead_ms) // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._cached.clear()
        return self._cached.get(target)

    async def _asked(self, target: str) -> HttpAnswer:
        self.forwarded += 1
        done = self._under_way[target] = trio.Event()
        minute, client = (
            self._minute,
            self._idle.pop() if self._idle else HttpClient(self._upstream),
        )
        try:
            answer = await client.get(target)
        except HTTP_ERRORS:
            await client.aclose()
            return _BAD_GATEWAY
        finally:
            del self._under_way[target]
            done.set()
        self._idle.append(client)
        if answer.status == HTTPStatus.OK and minute == self._minute and _is_cached(target):
            self._cached[target] = answer
        return answer


def _is_cached(target: str) -> bool:
    path, _, query = target.partition("?")
    return path.endswith(("/klines", "/exchangeInfo")) and "Time=" not in query


async def _serve(proxy: CachingProxy, stream: trio.SocketStream) -> None:
    http = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some()))
                elif isinstance(event, h11.Request):
                    target = event.target.decode()
                elif isinstance(event, h11.EndOfMessage):
                    await stream.send_all(_written(http, await proxy.answer(target)))
                    if http.our_state is not h11.DONE:
                        return
                    http.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return
        except HTTP_ERRORS:
            pass  # The client is gone.


def _written(http: h11.Connection, answer: HttpAnswer) -> bytes:
    headers = [(name, value) for name, value in answer.headers.items() if name in _PASSED_ON]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    parts = (
        http.send(h11.Response(status_code=answer.status, headers=headers)),
        http.send(h11.Data(data=answer.body)),
        http.send(h11.EndOfMessage()),
    )
    return b"".join(part or b"" for part in parts)


async def _run(upstream: str, ahead_ms: float) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    emit("ready", address=f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    await trio.serve_listeners(partial(_serve, CachingProxy(upstream, ahead_ms)), listeners)


def main() -> None:
    """Serve until terminated."""
    # Ctrl-C is for the parent process, which terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trio.run(_run, sys.argv[1], float(sys.argv[2]))


if __name__ == "__main__":
    main()
