from __future__ import annotations

import io

import pytest

from tests.native import packets
from tests.native.wire import WireError, WireReader, string, varint


def reader(data: bytes) -> WireReader:
    """A reader of just these bytes."""
    return WireReader(io.BytesIO(data))


def hello(revision: int) -> bytes:
    """The first packet of a client of this revision."""
    return (
        varint(0) + string("me") + varint(1) + varint(2) + varint(revision)
        + string("market") + string("default") + string("secret")
    )  # fmt: skip


@pytest.mark.parametrize(("theirs", "agreed"), [(54_412, 54_412), (54_490, 54_453)])
def test_the_smaller_revision_is_agreed_on(theirs: int, agreed: int) -> None:
    """Neither side is spoken to in a dialect it does not know."""
    read = packets.read_hello(reader(hello(theirs)))
    assert read == packets.Hello(
        client="me", revision=agreed, database="market", user="default", password="secret"
    )


def test_an_ancient_client_is_refused() -> None:
    """A client older than client info gets a reason."""
    with pytest.raises(WireError, match="older than 54032"):
        packets.read_hello(reader(hello(54_031)))


def test_a_browser_is_refused() -> None:
    """A connection that does not begin with a Hello gets a reason."""
    with pytest.raises(WireError, match="instead of a Hello"):
        packets.read_hello(reader(b"GET / HTTP/1.1\r\n"))


def test_an_unknown_packet_is_refused() -> None:
    """A packet that this server does not know is named by its number."""
    with pytest.raises(WireError, match="unknown packet 9"):
        packets.read_packet(reader(varint(9)), packets.SERVER_REVISION)


def test_progress_of_writes_is_told_who_knows_of_it() -> None:
    """Progress has two fields more from revision 54420 on."""
    assert packets.progress(1, 2, 54_419) == b"\3\1\2\0"
    assert packets.progress(1, 2, 54_420) == b"\3\1\2\0\0\0"
