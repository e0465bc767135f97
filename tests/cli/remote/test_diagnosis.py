"""Servers that answer in an agent's place are named, with what to try instead."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from klineagent.api.app import json_app
from klineagent.api.guard import ANYONE, Guard
from klineagent.api.models.contract import Status
from klineagent.api.models.reports import Live
from klineagent.api.openapi import operation
from klineagent.api.routes.health import status_app
from klineagent.api.server.listen import open_listener, serve_http
from klineagent.cli.remote.connection import Address, open_connection
from klineagent.core.address import Bind
from klineagent.core.errors import AgentDenied, AgentError, AgentRefused, AgentUnreachable
from klineagent.testing.simulation import FEBRUARY_2026_MS
from klineagent.twin.exchange import open_exchange
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.server import serve_exchange
from klineagent.twin.venues import USDM
from tests.cli.remote.scripted import LOOPBACK, answering, saying

TOKEN = "0123456789abcdef"


async def _fail(url: str, *, ca_file: Path | None = None, token: str | None = None) -> AgentError:
    with pytest.raises(AgentError) as raised:
        async with open_connection(Address(url=url, ca_file=ca_file, token=token)) as connection:
            await connection.get(Status, "/status")
    assert "\n" not in str(raised.value)
    return raised.value


@asynccontextmanager
async def _status_server(
    guard: Guard = ANYONE, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Bind]:
    app = status_app(guard)

    @app.get("/live")
    @operation(Live, tag="health", is_open=True)
    async def live() -> Live:
        return Live()

    async with open_listener(Bind(LOOPBACK, 0)) as listener, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, app, listener, drain_s=0.1, tls=tls))
        yield listener.bind
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize("token", [None, TOKEN, TOKEN[::-1]])
async def test_the_status_server(token: str | None) -> None:
    """A user who confuses the servers is pointed to the other, whatever the token."""
    guard = Guard(token=TOKEN.encode(), open_paths=frozenset({"/ping", "/live", "/ready"}))
    async with _status_server(guard) as bind:
        error = await _fail(f"http://{bind}", token=token)
    assert type(error) is AgentRefused
    assert str(error) == (
        f"the server at http://{bind} is an agent's status server; the command API has another"
        " port, by default 9999"
    )


async def test_an_agent_that_denies_is_no_status_server() -> None:
    """Its command API answers nothing without the token, and has no `/live`."""
    app = json_app(__name__, Guard(token=TOKEN.encode()))
    async with open_listener(Bind(LOOPBACK, 0)) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_http, app, listener, drain_s=0.1))
        error = await _fail(f"http://{listener.bind}")
        nursery.cancel_scope.cancel(reason="the test is over")
    assert type(error) is AgentDenied


async def test_the_exchange() -> None:
    """Twins have an address in the same terminal, and are easily taken for the agent."""
    market = RandomMarket(symbols=1, seed=1, start_ms=FEBRUARY_2026_MS)
    async with open_exchange(market, USDM) as exchange, trio.open_nursery() as nursery:
        host, port = await nursery.start(serve_exchange, exchange, LOOPBACK, 0)
        error = await _fail(f"http://{host}:{port}")
        nursery.cancel_scope.cancel(reason="the test is over")
    assert type(error) is AgentRefused
    assert "is no agent but a web server (klineagent simulate), which answered 404" in str(error)


@pytest.mark.parametrize("status", ["200 OK", "301 Moved Permanently", "404 Not Found"])
async def test_a_web_server(status: str) -> None:
    """The error has its `Server` header and its status."""
    head = f"HTTP/1.1 {status}\r\nServer: nginx\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"
    async with saying(head.encode() + b"<html>") as url:
        error = await _fail(url)
    assert type(error) is AgentRefused
    assert f"is no agent but a web server (nginx), which answered {status}; --agent must" in str(
        error
    )
    async with answering(status, b"<html>") as url:
        assert f"is no agent but a web server, which answered {status};" in str(await _fail(url))


async def test_no_web_server_at_all() -> None:
    """Such as a mail server or a database; its own message would not help."""
    async with saying(b"220 mail.example ESMTP\r\n") as url:
        error = await _fail(url)
    assert isinstance(error, AgentUnreachable)
    assert "does not speak HTTP: " in str(error)
    assert "http://HOST:9999" in str(error)
    async with saying(b"220 mail.example ESMTP\r\n") as url:
        error = await _fail(url.replace("http", "https"))
    assert f"TLS with {url.replace('http', 'https')} failed: " in str(error)


async def test_https_to_what_does_not_speak_tls() -> None:
    """The error shows the address that works."""
    async with _status_server() as bind:
        error = await _fail(f"https://{bind}")
    assert isinstance(error, AgentUnreachable)
    assert str(error).startswith(f"TLS with https://{bind} failed: ")
    assert str(error).endswith(f"; use http://{bind} if the agent has no certificate")


async def test_a_failed_handshake_is_not_followed_by_clear_text() -> None:
    """A server that spoils the handshake would get the token."""
    received: list[bytes] = []
    async with saying(b"HTTP/1.1 418 I'm a teapot\r\n\r\n", received) as url:
        await _fail(url.replace("http", "https"), token=TOKEN)
    assert len(received) == 1
    assert TOKEN.encode() not in received[0]


async def test_http_to_what_speaks_tls(
    tmp_path: Path, certified: Callable[[Path], ssl.SSLContext]
) -> None:
    """The server hangs up, and the error mentions https."""
    async with _status_server(tls=certified(tmp_path / "ca.pem")) as bind:
        error = await _fail(f"http://{bind}")
    assert isinstance(error, AgentUnreachable)
    assert "does not speak HTTP: " in str(error)
    assert str(error).endswith("or https://HOST:PORT if it has a certificate")


@pytest.fixture
def certified() -> Callable[[Path], ssl.SSLContext]:
    """What a server needs for TLS; who vouches for it goes into the file."""

    def certify(ca_file: Path) -> ssl.SSLContext:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(LOOPBACK).configure_cert(context)
        authority.cert_pem.write_to_path(str(ca_file))
        return context

    return certify
