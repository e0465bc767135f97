from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

import httpx2
import pytest
import trio
from attrs import define
from quart_trio import QuartTrio

from klineagent.api.app import MAX_BODY_BYTES
from klineagent.api.routes.commands import command_app
from klineagent.api.routes.health import status_app
from klineagent.api.server.connection import HttpConnection
from klineagent.api.server.listen import open_listener, serve_http
from klineagent.api.subscriptions import Subscriptions
from klineagent.core.address import Bind
from klineagent.core.errors import StartError
from klineagent.core.interval import Interval
from klineagent.exchange.venues import USDM

pytestmark = pytest.mark.slow

ANY_PORT = Bind("127.0.0.1", 0)
DRAIN_S = 1.0


@define
class Chunks(httpx2.AsyncByteStream):
    """A body of blanks in parts, no generator: an abandoned one would warn, httpx2's own too."""

    left: int

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.left <= 0:
            raise StopAsyncIteration
        self.left -= 1024
        return b" " * 1024


@asynccontextmanager
async def serving(app: QuartTrio, at: Bind = ANY_PORT) -> AsyncIterator[Bind]:
    """`app` on a port of its own."""
    async with open_listener(at) as listener, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, app, listener, drain_s=DRAIN_S))
        yield listener.bind
        nursery.cancel_scope.cancel()


@pytest.fixture
def app(subscriptions: Subscriptions) -> QuartTrio:
    """The command app over an empty twin."""
    return command_app(subscriptions, [Interval.M1, Interval.H1], USDM)


async def test_answers_over_a_socket(app: QuartTrio) -> None:
    """A real client on a real socket gets the contract's answers and errors."""
    with trio.fail_after(5):
        async with serving(app) as bind, httpx2.AsyncClient(base_url=f"http://{bind}") as client:
            added = await client.post("/symbols/add", json={"symbols": ["BTCUSDT"]})
            assert (added.status_code, added.json()["status"]) == (200, "ok")
            assert (await client.get("/connections/count")).json() == {"connection_count": 2}
            assert (await client.get("/nowhere")).json() == {"error": "Not Found: GET /nowhere"}
            assert (await client.put("/status")).headers["allow"] == "GET, HEAD, OPTIONS"


async def test_ipv6() -> None:
    """A server listens on IPv6 too."""
    with trio.fail_after(5):
        async with serving(status_app(), Bind("::1", 0)) as bind, httpx2.AsyncClient() as client:
            assert (await client.get(f"http://{bind}/ping")).status_code == 200


async def test_a_port_in_use() -> None:
    """A port that is taken is one error that names the address."""
    with trio.fail_after(5):
        async with open_listener(ANY_PORT) as listener:
            with pytest.raises(StartError, match=f"cannot listen on {listener.bind}: .*in use"):
                async with open_listener(listener.bind):
                    pass


async def test_who_calls_early_waits() -> None:
    """A request that comes after the address is taken and before it is served is answered then."""
    with trio.fail_after(5):
        async with open_listener(ANY_PORT) as listener, trio.open_nursery() as nursery:
            async with await trio.open_tcp_stream(*listener.bind) as stream:
                await stream.send_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
                await nursery.start(partial(serve_http, status_app(), listener, drain_s=DRAIN_S))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            nursery.cancel_scope.cancel()


async def test_an_address_is_free_again_afterwards() -> None:
    """Whether it was served or not."""
    with trio.fail_after(5):
        async with open_listener(ANY_PORT) as listener:
            pass
        async with serving(status_app(), listener.bind) as bind:
            assert bind == listener.bind
        async with open_listener(bind):
            pass


async def test_a_name_with_a_port_of_the_systems_is_one_address() -> None:
    """Each of its addresses would have another port."""
    async with open_listener(Bind("localhost", 0)) as listener:
        [socket] = listener.sockets
    assert listener.bind.host in {"127.0.0.1", "::1"}
    assert socket.socket.fileno() == -1


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1024, 40 * MAX_BODY_BYTES])
async def test_oversized_bodies(app: QuartTrio, size: int) -> None:
    """A body over the limit is refused, whether its length is announced or not."""
    with trio.fail_after(5):
        async with serving(app) as bind, httpx2.AsyncClient(base_url=f"http://{bind}") as client:
            for framing in ({"Content-Length": str(size)}, {"Transfer-Encoding": "chunked"}):
                request = httpx2.Request(
                    "POST",
                    f"http://{bind}/streams/add",
                    headers={"Host": str(bind), **framing},
                    stream=Chunks(size),
                )
                response = await client.send(request)
                assert response.status_code == 413
                assert list(response.json()) == ["error"]
            assert (await client.get("/ping")).status_code == 200


async def test_a_hundred_concurrent_requests(app: QuartTrio, subscriptions: Subscriptions) -> None:
    """Requests of all kinds at once are all answered, and leave what they say they leave."""
    statuses = []

    async def ask(client: httpx2.AsyncClient, method: str, path: str, body: object) -> None:
        statuses.append((await client.request(method, path, json=body)).status_code)

    with trio.fail_after(10):
        async with (
            serving(app) as bind,
            httpx2.AsyncClient(base_url=f"http://{bind}") as client,
            trio.open_nursery() as nursery,
        ):
            for n in range(20):
                stream = {"symbol": f"SYM{n}", "interval": "1m"}
                symbols = {"symbols": [f"SYM{n}", "BTCUSDT"]}
                nursery.start_soon(ask, client, "POST", "/streams/add", stream)
                nursery.start_soon(ask, client, "POST", "/symbols/add", symbols)
                for path in ("/status", "/connections/list", "/symbols"):
                    nursery.start_soon(ask, client, "GET", path, None)
    assert statuses == [200] * 100
    assert subscriptions.count() == 21 * 2


async def test_requests_under_way_are_finished() -> None:
    """A server that is stopped answers what it has begun to answer."""
    app, begun = status_app(), trio.Event()

    @app.get("/slow")
    async def slow() -> dict[str, str]:
        begun.set()
        await trio.sleep(DRAIN_S / 4)
        return {"status": "ok"}

    with trio.fail_after(5):
        async with serving(app) as bind:
            stream = await trio.open_tcp_stream(*bind)
            await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await begun.wait()
        async with stream:
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_who_hangs_up_cancels_what_was_asked_for() -> None:
    """The request of a client that has disconnected is cancelled."""
    app, begun, ended = status_app(), trio.Event(), trio.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with trio.fail_after(5):
        async with serving(app) as bind:
            async with await trio.open_tcp_stream(*bind) as stream:
                await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
                await begun.wait()
            await ended.wait()


@pytest.mark.logs("connection_failed")
async def test_a_bug_met_by_one_client_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and ends that connection alone."""
    with trio.fail_after(5):
        async with serving(status_app()) as bind, httpx2.AsyncClient() as client:
            with monkeypatch.context() as broken:
                broken.setattr(HttpConnection, "_read_data", _fail)
                with pytest.raises(httpx2.HTTPError):
                    await client.get(f"http://{bind}/ping")
            assert (await client.get(f"http://{bind}/ping")).status_code == 200


async def _fail(connection: HttpConnection) -> None:
    raise RuntimeError(f"{connection} met a bug")


async def test_a_request_that_never_ends_does_not_keep_the_server() -> None:
    """Requests not done by the end of the drain are cancelled."""
    app, begun = status_app(), trio.Event()

    @app.get("/stuck")
    async def stuck() -> str:
        begun.set()
        await trio.Event().wait()
        return "never"

    with trio.fail_after(DRAIN_S + 2):
        async with serving(app) as bind:
            stream = await trio.open_tcp_stream(*bind)
            await stream.send_all(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
            await begun.wait()
    await stream.aclose()


async def test_a_client_that_does_not_read_does_not_keep_the_server() -> None:
    """An answer that the client does not read is dropped soon after the drain."""
    app, begun = status_app(), trio.Event()

    @app.get("/large")
    async def large() -> str:
        begun.set()
        return "x" * 30_000_000

    with trio.fail_after(5 * DRAIN_S):
        async with serving(app) as bind:
            stream = await trio.open_tcp_stream(*bind)
            await stream.send_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await begun.wait()
    await stream.aclose()


@pytest.mark.parametrize("steps", range(16))
async def test_a_server_cancelled_while_it_starts_ends(steps: int) -> None:
    """Whenever the cancellation comes, it neither hangs nor fails."""
    with trio.fail_after(5):
        async with open_listener(ANY_PORT) as listener, trio.open_nursery() as nursery:
            serve = partial(serve_http, drain_s=DRAIN_S)
            nursery.start_soon(serve, status_app(), listener)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
