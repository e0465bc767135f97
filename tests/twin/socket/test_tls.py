from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import memory_stream_pair

from klineagent.core.errors import ConfigError
from klineagent.twin.socket.tls import TlsServerStream, open_tls
from klineagent.twin.wire import frame_of

HOST = "exchange"
# With sizes of one, three and nine bytes; the last one needs records for itself.
FRAMES = [frame_of(b"x" * size) for size in (0, 15, 330, 4_096, 66_000)]
_HEADER_BYTES, _MOST_IN_RECORD = 5, 16_384


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The certificate authority of the server."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context from one PEM file."""
    identity = tmp_path_factory.mktemp("tls") / "identity.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(identity)
    return open_tls(identity)


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the server."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class _Wiretap(trio.abc.Stream):
    """A client's stream that splits received data into TLS records."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._unread = bytearray()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while len(self._unread) < (size := self._next_size()):
            received = await self._stream.receive_some(max_bytes)
            if not received:
                return b""
            self._unread += received
        record = bytes(self._unread[:size])
        del self._unread[:size]
        return record

    def _next_size(self) -> int:
        if len(self._unread) < _HEADER_BYTES:
            return _HEADER_BYTES
        return _HEADER_BYTES + int.from_bytes(self._unread[3:5])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def open_pair(
    server: ssl.SSLContext, client: ssl.SSLContext, *, polite: bool = False
) -> tuple[TlsServerStream, trio.SSLStream[_Wiretap]]:
    """Both ends of a connection before the handshake; a polite client sends close_notify."""
    ours, theirs = memory_stream_pair()
    tls = trio.SSLStream(
        _Wiretap(theirs), client, server_hostname=HOST, https_compatible=not polite
    )
    return TlsServerStream(ours, server), tls


async def test_each_frame_is_a_record(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A record contains one frame, however many were sent at once."""
    ours, theirs = open_pair(server, client)
    await _greet(ours, theirs)
    await ours.send_all(b"".join(FRAMES))
    for frame in FRAMES:
        for start in range(0, len(frame), _MOST_IN_RECORD):
            assert await theirs.receive_some() == frame[start : start + _MOST_IN_RECORD]


async def test_data_that_is_no_frame_stays_in_one_piece(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """HTTP, and all that follows it in the same send."""
    ours, theirs = open_pair(server, client)
    await _greet(ours, theirs)
    answer = b"HTTP/1.1 200 \r\n\r\n" + FRAMES[1]
    await ours.send_all(FRAMES[2] + answer)
    assert await theirs.receive_some() == FRAMES[2]
    assert await theirs.receive_some() == answer


async def test_both_ends_may_send_at_once(
    server: ssl.SSLContext, client: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    """A reading task does not block a sending one."""
    ours, theirs = open_pair(server, client)
    await _greet(ours, theirs)
    heard = []

    async def listen() -> None:
        heard.append(await ours.receive_some())

    nursery.start_soon(listen)
    await trio.testing.wait_all_tasks_blocked()
    await ours.send_all(FRAMES[1])
    assert await theirs.receive_some() == FRAMES[1]
    await theirs.send_all(b"thanks")
    await trio.testing.wait_all_tasks_blocked()
    assert heard == [b"thanks"]


@pytest.mark.parametrize("polite", [True, False])
async def test_closing_ends_the_stream(
    server: ssl.SSLContext, client: ssl.SSLContext, polite: bool
) -> None:
    """With close_notify or without."""
    ours, theirs = open_pair(server, client, polite=polite)
    await _greet(ours, theirs)
    await theirs.aclose()
    assert await ours.receive_some() == b""


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_a_client_without_tls_is_an_error(server: ssl.SSLContext, said: bytes) -> None:
    """Its stream breaks in both directions."""
    ours, theirs = memory_stream_pair()
    stream = TlsServerStream(ours, server)
    await theirs.send_all(said)
    with pytest.raises(trio.BrokenResourceError, match=r"(?i)http.request|unexpected.message"):
        await stream.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(FRAMES[0])


async def test_a_client_that_distrusts_the_server_is_gone(server: ssl.SSLContext) -> None:
    """Trio's client closes silently."""
    ours, theirs = open_pair(server, ssl.create_default_context())

    async def distrust() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await theirs.do_handshake()
        await theirs.transport_stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(distrust)
        assert await ours.receive_some() == b""


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_file_without_an_identity_is_one_line(tmp_path: Path, content: str) -> None:
    """The message names the file."""
    identity = tmp_path / "identity.pem"
    identity.write_text(content)
    with pytest.raises(ConfigError, match=f"--tls: .*{identity}"):
        open_tls(identity)


async def _greet(ours: TlsServerStream, theirs: trio.SSLStream[_Wiretap]) -> None:
    """Let the client say something, which brings about the handshake."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"hello")
        assert await ours.receive_some() == b"hello"
