"""Client TLS against servers on loopback, in both versions."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trustme
from attrs import define, field, frozen
from trio.testing import open_stream_to_socket_listener, wait_all_tasks_blocked

from klineagent.exchange.stream.tls import TlsStream

HOST = "exchange.test"
WITHIN_S = 20
MANY_BYTES = bytes(range(256)) * 8 * 1024  # 2 MB: more than the buffers on the way hold
_RESET = struct.pack("ii", 1, 0)


def _open_gate() -> trio.Event:
    gate = trio.Event()
    gate.set()
    return gate


@define(eq=False)
class Wire(trio.abc.Stream):
    """A socket that counts bytes and reads, and that can be held up."""

    tcp: trio.SocketStream
    sent: int = field(default=0, init=False)
    received: int = field(default=0, init=False)
    reads: int = field(default=0, init=False)
    gate: trio.Event = field(factory=_open_gate, init=False)
    """Sending waits for it."""
    half_gate: trio.Event = field(factory=_open_gate, init=False)
    """Sending waits for it when half of the data is sent."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        received = await self.tcp.receive_some(max_bytes)
        self.reads += 1
        self.received += len(received)
        return bytes(received)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        half = len(data) // 2
        for gate, part in ((self.gate, data[:half]), (self.half_gate, data[half:])):
            await gate.wait()
            await self.tcp.send_all(part)
            self.sent += len(part)

    async def wait_send_all_might_not_block(self) -> None:
        await self.tcp.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.tcp.aclose()

    async def arrived(self, peer: Wire) -> None:
        """Wait until all that `peer` has sent can be read at once."""
        while (missing := peer.sent - self.received) > 0:
            if len(await self.tcp.socket.recv(missing, socket.MSG_PEEK)) == missing:
                return
            await trio.lowlevel.checkpoint()


@frozen
class Ends:
    """A connection after the handshake."""

    client: TlsStream
    server: trio.SSLStream[Wire]
    ours: Wire
    theirs: Wire


@asynccontextmanager
async def _wires() -> AsyncIterator[tuple[Wire, Wire]]:
    """Both ends of a connection; every wait is bounded."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(WITHIN_S):
        async with listener:
            ours = Wire(await open_stream_to_socket_listener(listener))
            theirs = Wire(await listener.accept())
        async with ours, theirs:
            yield ours, theirs


@asynccontextmanager
async def _connected(server: ssl.SSLContext, client: ssl.SSLContext) -> AsyncIterator[Ends]:
    async with _wires() as (ours, theirs):
        ends = Ends(
            TlsStream(ours, client, server_hostname=HOST),
            trio.SSLStream(theirs, server, server_side=True, https_compatible=True),
            ours,
            theirs,
        )
        await _at_once(ends.client.do_handshake, ends.server.do_handshake)
        yield ends


async def _at_once(*each: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        for one in each:
            nursery.start_soon(one)


async def _receive(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += await stream.receive_some()
    return bytes(received)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that signs the server's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> ssl.SSLContext:
    """The context of the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    return context


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def client(request: pytest.FixtureRequest, authority: trustme.CA) -> ssl.SSLContext:
    """The context of a client that trusts the server, for one version of TLS."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[request.param]
    return context


async def test_all_records_of_a_read_are_returned_at_once(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """A server that puts each frame into a record of its own costs one call for many."""
    frames = [b"frame %03d" % number for number in range(200)]
    async with _connected(server, client) as ends:
        for frame in frames:
            await ends.server.send_all(frame)
        await ends.ours.arrived(ends.theirs)
        reads_before = ends.ours.reads
        assert await ends.client.receive_some() == b"".join(frames)
        assert ends.ours.reads == reads_before + 1


async def test_no_more_is_read_at_once_than_requested(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """The remainder comes with the next call."""
    async with _connected(server, client) as ends:
        for _ in range(200):
            await ends.server.send_all(b"x" * 100)
        await ends.ours.arrived(ends.theirs)
        sizes: list[int] = []
        while sum(sizes) < 200 * 100:
            before = ends.ours.received
            sizes.append(len(await ends.client.receive_some(4096)))
            assert ends.ours.received - before <= 4096
        assert len(sizes) >= 5


async def test_large_amounts_go_both_ways_at_once(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Neither end waits for the other to stop."""
    async with _connected(server, client) as ends:
        heard: list[bytes] = []

        async def listen(stream: trio.abc.ReceiveStream) -> None:
            heard.append(await _receive(stream, len(MANY_BYTES)))

        async with trio.open_nursery() as nursery:
            for end in (ends.client, ends.server):
                nursery.start_soon(end.send_all, MANY_BYTES)
                nursery.start_soon(listen, end)
        assert heard == [MANY_BYTES, MANY_BYTES]


async def test_several_tasks_may_send_at_once(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Each message stays in one piece."""
    messages = [bytes([letter]) * 100_000 for letter in b"abcdef"]
    async with _connected(server, client) as ends, trio.open_nursery() as nursery:
        for message in messages:
            nursery.start_soon(ends.client.send_all, message)
        received = await _receive(ends.server, 600_000)
        pieces = [received[at : at + 100_000] for at in range(0, 600_000, 100_000)]
        assert sorted(pieces) == messages


async def test_reading_does_not_wait_for_sending(
    server: ssl.SSLContext, client: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    """A server may read on only after its own data was read."""
    async with _connected(server, client) as ends:
        ends.ours.gate = trio.Event()
        nursery.start_soon(ends.client.send_all, b"question")
        await wait_all_tasks_blocked()
        await ends.server.send_all(b"something else")
        assert await ends.client.receive_some() == b"something else"
        ends.ours.gate.set()
        assert await ends.server.receive_some() == b"question"


async def test_data_that_comes_with_the_handshake_is_kept(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """A server may send first."""
    async with _wires() as (ours, theirs):
        tls = trio.SSLStream(theirs, server, server_side=True)
        stream = TlsStream(ours, client, server_hostname=HOST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tls.send_all, b"welcome")
            await stream.do_handshake()
            assert await stream.receive_some() == b"welcome"


async def test_sending_nothing_is_allowed(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """As trio's streams require."""
    async with _connected(server, client) as ends:
        await ends.client.send_all(b"")
        await ends.client.wait_send_all_might_not_block()
        await ends.client.send_all(memoryview(b"something"))
        assert await ends.server.receive_some() == b"something"


async def test_a_server_that_hangs_up_ends_the_stream(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Its last data is read; then the end is reported, however often."""
    async with _connected(server, client) as ends:
        await ends.server.send_all(b"last words")
        await ends.theirs.aclose()
        assert await ends.client.receive_some() == b"last words"
        assert await ends.client.receive_some() == b""
        assert await ends.client.receive_some() == b""


async def test_a_server_that_closes_tls_ends_the_stream(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Even if its socket stays open."""
    async with _connected(server, client) as ends, trio.open_nursery() as nursery:

        async def say_goodbye() -> None:
            with suppress(trio.BrokenResourceError):  # there is no answer
                await ends.server.unwrap()

        await ends.server.send_all(b"last words")
        nursery.start_soon(say_goodbye)
        assert await ends.client.receive_some() == b"last words"
        assert await ends.client.receive_some() == b""
        assert await ends.client.receive_some() == b""
        await ends.client.aclose()


async def test_a_reset_connection_is_broken(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """The error is the socket's own."""
    async with _connected(server, client) as ends:
        ends.theirs.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        await trio.aclose_forcefully(ends.theirs)
        with pytest.raises(trio.BrokenResourceError):
            await ends.client.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await ends.client.send_all(b"hello?")


async def test_bytes_that_are_no_tls_break_the_stream(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """The error text is OpenSSL's."""
    async with _connected(server, client) as ends:
        await ends.theirs.send_all(b"HTTP/1.1 400 Bad SubscriptionRequest\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError, match="SSL: "):
            await ends.client.receive_some()


@pytest.mark.parametrize(
    ("is_trusted", "host", "reason", "alert"),
    [
        (False, HOST, "CERTIFICATE_VERIFY_FAILED", "UNKNOWN_CA"),
        (True, "other.test", "Hostname mismatch", "BAD_CERTIFICATE"),
    ],
)
async def test_a_server_with_a_wrong_certificate_gets_an_alert(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    is_trusted: bool,
    host: str,
    reason: str,
    alert: str,
) -> None:
    """Both ends know the reason."""
    if not is_trusted:
        trustful, client = client, ssl.create_default_context()
        client.minimum_version = client.maximum_version = trustful.maximum_version
    async with _wires() as (ours, theirs), trio.open_nursery() as nursery:
        tls = trio.SSLStream(theirs, server, server_side=True)

        async def serve() -> None:
            with pytest.raises(trio.BrokenResourceError) as broken:
                await tls.receive_some()
            assert alert in str(broken.value.__cause__)

        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError, match=reason):
            await TlsStream(ours, client, server_hostname=host).do_handshake()


async def test_a_server_that_hangs_up_during_the_handshake_breaks_the_stream(
    client: ssl.SSLContext,
) -> None:
    """After it has received the first message."""
    async with _wires() as (ours, theirs), trio.open_nursery() as nursery:

        async def hang_up() -> None:
            assert await theirs.receive_some()
            await theirs.aclose()

        nursery.start_soon(hang_up)
        with pytest.raises(trio.BrokenResourceError, match="the peer hung up"):
            await TlsStream(ours, client, server_hostname=HOST).do_handshake()


async def test_a_server_without_tls_breaks_the_stream(client: ssl.SSLContext) -> None:
    """The error text is OpenSSL's."""
    async with _wires() as (ours, theirs):
        await theirs.send_all(b"HTTP/1.1 400 Bad SubscriptionRequest\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError, match="SSL: "):
            await TlsStream(ours, client, server_hostname=HOST).do_handshake()


async def _give_up_receiving(stream: TlsStream) -> None:
    """Read until nothing more can happen without data, and cancel the read."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_cancelled_read_loses_nothing(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Data that comes later is returned by the next read."""
    async with _connected(server, client) as ends:
        for _ in range(3):
            await _give_up_receiving(ends.client)
            await ends.server.send_all(b"something")
            assert await ends.client.receive_some() == b"something"


async def test_a_read_cancelled_within_a_record_loses_nothing(
    server: ssl.SSLContext, client: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    """The first half of the record is kept."""
    async with _connected(server, client) as ends:
        ends.theirs.half_gate = trio.Event()
        nursery.start_soon(ends.server.send_all, b"something")
        await wait_all_tasks_blocked()
        await ends.ours.arrived(ends.theirs)
        await _give_up_receiving(ends.client)
        assert ends.ours.received == ends.theirs.sent
        ends.theirs.half_gate.set()
        assert await ends.client.receive_some() == b"something"


# Messages after the handshake


@pytest.fixture
def curious_server(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a server that may request a certificate at any time."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.post_handshake_auth = True
    return context


@pytest.fixture
def known_client(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a client with a certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("client.test").configure_cert(context)
    context.post_handshake_auth = True
    return context


async def _ask_who_it_is(ends: Ends) -> None:
    """OpenSSL answers while the client reads, as it does when keys change."""
    # trio shows the method of no version; the object below is ssl's own.
    ends.server._ssl_object.verify_client_post_handshake()
    await ends.server.send_all(b"who are you?")
    await ends.ours.arrived(ends.theirs)
    assert await ends.client.receive_some() == b"who are you?"


async def test_reading_sends_the_answers_of_tls(
    curious_server: ssl.SSLContext, known_client: ssl.SSLContext
) -> None:
    """They are sent before any other data."""
    async with _connected(curious_server, known_client) as ends:
        await _ask_who_it_is(ends)
        sent_before = ends.ours.sent
        await _give_up_receiving(ends.client)
        assert ends.ours.sent > sent_before
        await ends.client.send_all(b"hello")
        assert await ends.server.receive_some() == b"hello"
        assert ends.server.getpeercert()


async def test_a_read_cancelled_while_tls_answers_breaks_the_stream(
    curious_server: ssl.SSLContext, known_client: ssl.SSLContext
) -> None:
    """A part of the answer is lost, and nothing after it makes sense to the server."""
    async with _connected(curious_server, known_client) as ends:
        await _ask_who_it_is(ends)
        ends.ours.gate = trio.Event()
        await _give_up_receiving(ends.client)
        ends.ours.gate.set()
        with pytest.raises(trio.BrokenResourceError):
            await ends.client.send_all(b"hello")
