from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio
import trustme

from klineagent.agent import open_agent
from klineagent.api.access import command_guard, command_tls, read_guard, status_guard
from klineagent.api.guard import OPEN_PATHS, Guard, RequestHead
from klineagent.config.loading import load_config
from klineagent.config.model import Config
from klineagent.core.address import Bind
from klineagent.core.errors import ConfigError, Forbidden, Unauthorized, reason_of
from klineagent.exchange.network import Internet
from klineagent.storage.opening import open_store
from klineagent.testing.simulation import open_simulation

TOKEN = "0123456789abcdef-the-right-one"
EVERYWHERE = {"command_bind": "0.0.0.0:0", "status_bind": "0.0.0.0:0"}


def _logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_by_default_only_this_machine_commands() -> None:
    """Others still learn that the agent is alive."""
    config = load_config({}, {}, None)
    command, status = command_guard(config), status_guard(config)
    assert (command.token, command.is_local, command.is_closed) == (None, True, False)
    assert (status.token, status.is_local, status.is_closed) == (None, False, True)
    assert (command.open_paths, status.open_paths) == (frozenset(), OPEN_PATHS)


async def test_an_open_address_needs_a_word_about_who_may_command() -> None:
    """The start ends with one line that says what to do."""
    config = load_config({**EVERYWHERE, "store": "memory:"}, {}, None)
    with pytest.raises(ConfigError) as refused:
        async with open_agent(config):
            pytest.fail("it started")
    for way in ("--token-file", "KLINEAGENT_TOKEN", "127.0.0.1", "--allow-anonymous"):
        assert way in str(refused.value)


def test_anonymous_is_allowed_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged when it matters, and only then."""
    config = load_config({**EVERYWHERE, "allow_anonymous": "yes"}, {}, None)
    assert not command_guard(config).is_closed
    assert not status_guard(config).is_closed
    assert _logged(caplog) == ["anonymous_allowed"]
    command_guard(load_config({"allow_anonymous": "yes"}, {}, None))
    command_guard(load_config({**EVERYWHERE, "allow_anonymous": "yes", "token": TOKEN}, {}, None))
    assert _logged(caplog) == ["anonymous_allowed"]


def test_a_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """Either way it guards both servers; surrounding blanks are ignored."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    for options, environ in (
        ({}, {"KLINEAGENT_TOKEN": TOKEN}),
        ({"token_file": str(file)}, {}),
        ({}, {"KLINEAGENT_TOKEN_FILE": str(file)}),
    ):
        config = load_config({**EVERYWHERE, **options}, environ, None)
        assert command_guard(config).token == status_guard(config).token == TOKEN.encode()
        assert TOKEN not in repr(config)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "expected at least 16"),
        (b"short", "expected at least 16"),
        (b"a-secret with blanks in it", "expected at least 16"),
        (b"\xff" * 20, "not text"),
        (None, "No such file"),
    ],
)
def test_a_file_that_holds_no_token(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    """The error names the file and does not show its content."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as refused:
        command_guard(load_config({"token_file": str(file)}, {}, None))
    assert str(file) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_manager_that_cannot_reach_us_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """The agent would be registered, but commands could not reach it."""
    managed = {"register_ip": "203.0.113.1", "register_port": 8000}
    command_guard(load_config(managed, {}, None))
    assert _logged(caplog) == ["manager_cannot_command"]


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A private CA: its certificate is in `ca.pem`, one it issued in `own.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "own.pem"
    )
    return authority


async def test_commands_over_tls(authority: trustme.CA, tmp_path: Path) -> None:
    """One file with key and certificate will do; the status server stays as it is."""
    async with open_simulation(command_tls_cert=str(tmp_path / "own.pem")) as simulation:
        agent = simulation.agent
        trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        async with httpx2.AsyncClient(verify=trust) as client:
            for address in (f"https://{agent.command_bind}", f"http://{agent.status_bind}"):
                answer = await client.get(f"{address}/ping")
                assert answer.json() == {"status": "ok", "message": "pong"}
                assert answer.http_version == "HTTP/1.1"
            with pytest.raises(httpx2.HTTPError):
                await client.get(f"http://{agent.command_bind}/ping")


def test_a_certificate_and_its_key_may_be_two_files(authority: trustme.CA, tmp_path: Path) -> None:
    """As most tools write them."""
    made = authority.issue_cert("agent.example")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
    made.private_key_pem.write_to_path(key)
    config = load_config({"command_tls_cert": certificate.as_posix()}, {}, None)
    with pytest.raises(ConfigError, match="command_tls_key"):
        command_tls(config)
    files = {"command_tls_cert": certificate.as_posix(), "command_tls_key": key.as_posix()}
    assert command_tls(load_config(files, {}, None)) is not None
    assert command_tls(load_config({}, {}, None)) is None
    with pytest.raises(ConfigError, match="No such file"):
        command_tls(load_config({"command_tls_cert": "/nowhere/cert.pem"}, {}, None))
    with pytest.raises(ConfigError, match="command_tls_key needs"):
        load_config({"command_tls_key": key.as_posix()}, {}, None)


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_authority_of_ones_own(
    authority: trustme.CA, tmp_path: Path, trusted: bool
) -> None:
    """With `--ca-file` its certificates are good for streams, REST and the database."""
    ca_file = str(tmp_path / "ca.pem") if trusted else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    meet, met = trio.open_memory_channel[str](3)
    reasons: list[str] = []

    async def greet(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            try:
                await stream.do_handshake()
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                meet.send_nowait("accepted")
            except trio.BrokenResourceError:
                meet.send_nowait("refused")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, AsyncExitStack() as opened:
            serve = partial(trio.serve_ssl_over_tcp, greet, 0, context, host="127.0.0.1")
            (listener,) = await nursery.start(partial(serve, https_compatible=True))
            port = listener.transport_listener.socket.getsockname()[1]
            network = Internet(ca_file)
            http = await opened.enter_async_context(
                httpx2.AsyncClient(transport=network.http_transport())
            )
            store = await opened.enter_async_context(
                open_store(f"clickhouse://127.0.0.1:{port}/market?secure=1", ca_file)
            )
            url = httpx2.URL(f"wss://127.0.0.1:{port}")

            async def stream() -> None:
                async with await network.open_stream(url) as line:
                    await line.send_all(b"hello")
                    await line.receive_some()

            for ask in (stream, lambda: http.get(f"https://127.0.0.1:{port}"), store.summary):
                try:
                    await ask()
                except Exception as error:  # noqa: BLE001 - each has its own kind
                    reasons.append(reason_of(error))
            for _ in range(3):
                assert await met.receive() == ("accepted" if trusted else "refused")
            nursery.cancel_scope.cancel()
    distrusted = ["CERTIFICATE_VERIFY_FAILED" in reason for reason in reasons]
    assert distrusted.count(True) == (0 if trusted else 3)


def test_a_file_without_authorities(tmp_path: Path) -> None:
    """It is named at the start, not at the first connection."""
    for content, complaint in ((b"nonsense", "holds no certificate"), (None, "No such file")):
        file = tmp_path / "ca.pem"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError, match=complaint):
            Internet(str(file))


def test_passwords_in_urls_stay_secret() -> None:
    """The configuration shows addresses, but no password."""
    config = Config(
        store="clickhouse://me:secret@db.example/market",
        ws_url="wss://me:secret@ws.example",
        rest_url="https://me:secret@rest.example",
        command_bind=Bind("127.0.0.1", 0),
    )
    for host in ("db.example", "ws.example", "rest.example"):
        assert f"me:***@{host}" in repr(config)
    assert "secret" not in repr(config)
    for name, url in (
        ("ws_url", "http://me:secret@x"),
        ("rest_url", "ws://me:secret@x?y"),
        ("store", "clickhouse://me:secret@x?y"),
        ("register_ip", "http://me:secret@x"),
        ("token", "secret"),
    ):
        with pytest.raises(ConfigError) as refused:
            load_config({name: url}, {}, None)
        assert "secret" not in str(refused.value)


def test_the_token_of_commands_may_read_and_that_of_reading_may_not_command() -> None:
    """Whoever reads can have a token that does no harm."""
    commanding, reading = "commanding-0123456789", "reading-0123456789"
    config = Config(token=commanding, read_token=reading, read_bind="0.0.0.0:9977")

    def lets_in(guard: Guard, token: str) -> bool:
        try:
            guard.check(RequestHead(path="/x", method="POST", authorization=f"Bearer {token}"))
        except (Unauthorized, Forbidden):
            return False
        return True

    for token, may_command, may_read in (
        (commanding, True, True),
        (reading, False, True),
        ("neither-0123456789", False, False),
        ("", False, False),
    ):
        assert lets_in(command_guard(config), token) is may_command
        assert lets_in(status_guard(config), token) is may_command
        assert lets_in(read_guard(config), token) is may_read


def test_one_token_is_enough_to_read() -> None:
    """That of reading on its own, or that of commands on its own."""
    token = "0123456789abcdef"
    for name in ("token", "read_token"):
        guard = read_guard(Config(**{name: token}))
        guard.check(RequestHead(path="/x", authorization=f"Bearer {token}"))
        with pytest.raises(Unauthorized):
            guard.check(RequestHead(path="/x"))


def test_other_machines_cannot_read_without_a_token() -> None:
    """The message says what to do."""
    with pytest.raises(ConfigError, match=r"--read-token-file or KLINEAGENT_READ_TOKEN"):
        read_guard(Config(read_bind="0.0.0.0:9977"))
