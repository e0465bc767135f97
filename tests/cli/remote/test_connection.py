"""Failed calls, and errors that say what to do."""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from quart import request
from quart_trio import QuartTrio

from klineagent.api.models.contract import Status
from klineagent.api.server.listen import open_listener, serve_http
from klineagent.cli.remote.connection import Address, open_connection
from klineagent.core.address import Bind
from klineagent.core.errors import (
    AgentDenied,
    AgentError,
    AgentRefused,
    AgentUnreachable,
    ConfigError,
)
from tests.cli.remote.scripted import answering, saying

HERE = Bind("127.0.0.1", 0)


async def _ask(address: Address, *, within_s: float = 10) -> Status:
    async with open_connection(address) as connection:
        return (await connection.get(Status, "/status", within_s=within_s)).value


async def _fail(url: str, *, within_s: float = 10) -> AgentError:
    with pytest.raises(AgentError) as raised:
        await _ask(Address(url=url), within_s=within_s)
    assert "\n" not in str(raised.value)
    return raised.value


async def test_nobody_there() -> None:
    """It says how to start one, and how to name another."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    await listener.aclose()
    error = await _fail(url)
    assert isinstance(error, AgentUnreachable)
    assert f"no agent answers at {url}: Connection refused;" in str(error)
    assert "--agent" in str(error)


async def test_silence() -> None:
    """The error says how long the command waited."""
    async with saying(b"") as url:
        error = await _fail(url, within_s=0.05)
    assert isinstance(error, AgentUnreachable)
    assert "did not answer within 0.05 s" in str(error)


async def test_an_answer_without_end() -> None:
    """Bytes that keep coming do not extend the deadline."""

    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await stream.send_all(b"1\r\n \r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, talk, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        error = await _fail(url, within_s=0.2)
        nursery.cancel_scope.cancel(reason="the test is over")
    assert "did not answer within 0.2 s" in str(error)


async def test_an_address_with_a_path() -> None:
    """Copied from a browser, say; an agent behind a proxy may have one, and then has all paths."""
    body = b'{"error":"Not Found: GET /status/status"}'
    async with answering("404 Not Found", body) as url:
        error = await _fail(f"{url}/status")
    assert "leave the path out" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        ("401 Unauthorized", b'{"error":"a token"}', AgentDenied, "KLINEAGENT_TOKEN"),
        ("403 Forbidden", b'{"error":"Host: no"}', AgentDenied, "Host: no"),
        ("404 Not Found", b'{"error":"Not Found: GET /status"}', AgentRefused, "older than"),
        ("404 Not Found", b'{"error":"X does not run"}', AgentRefused, "X does not run"),
        ("504 Gateway Timeout", b'{"error":"no answer"}', AgentRefused, "no answer"),
        ("502 Bad Gateway", b"<html>", AgentRefused, "502 Bad Gateway"),
        ("200 OK", b"<html>", AgentRefused, "is no agent"),
        ("200 OK", b'{"status":"ok"}', AgentRefused, "connection_count"),
    ],
)
async def test_a_no(status: str, body: bytes, kind: type[AgentError], message: str) -> None:
    """The agent's own words, or what follows from them."""
    async with answering(status, body) as url:
        error = await _fail(url)
    assert type(error) is kind
    assert message in str(error)


async def test_a_token_is_wanted_and_none_was_shown() -> None:
    """The agent's own words are about a token that is wrong."""
    async with answering("401 Unauthorized", b'{"error":"this is none of ours"}') as url:
        error = await _fail(url)
        assert f"the agent at {url} requires a token: set KLINEAGENT_TOKEN" in str(error)
        with pytest.raises(AgentDenied, match="this is none of ours"):
            await _ask(Address(url=url, token="t" * 16))


async def test_something_else_answers() -> None:
    """The address may be that of any server."""
    async with saying(b"220 mail.example ESMTP\r\n") as url:
        error = await _fail(url)
    assert isinstance(error, AgentUnreachable)
    assert "does not speak HTTP" in str(error)


async def test_a_token_and_a_certificate(tmp_path: Path) -> None:
    """Both are shown or checked; without --ca-file the certificate is not trusted."""
    app = QuartTrio(__name__)

    @app.get("/status")
    async def status() -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        return {"connection_count": 0, "symbols": [request.headers["Authorization"]]}

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with open_listener(HERE) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_http, app, listener, drain_s=0.1, tls=context))
        url = f"https://{listener.bind}"
        answer = await _ask(Address(url=url, token="t" * 16, ca_file=ca_file))
        assert answer.symbols == [f"Bearer {'t' * 16}"]
        error = await _fail(url)
        assert "cannot be trusted" in str(error)
        assert "--ca-file" in str(error)
        nursery.cancel_scope.cancel()


async def test_a_file_without_certificates(tmp_path: Path) -> None:
    """It is named."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(ConfigError, match=r"empty\.pem"):
        await _ask(Address(url="https://127.0.0.1:1", ca_file=empty))


def test_the_token_is_not_told() -> None:
    """Not where an address is printed."""
    assert "secret" not in repr(Address(url="http://x", token="secret"))
