from __future__ import annotations

import pytest
import trio
from trio.testing import check_two_way_stream

from klineagent.twin.socket.memory_pair import MemoryEnd, open_memory_pair


async def test_it_is_a_stream() -> None:
    """It passes Trio's own checks for streams."""

    async def make() -> tuple[MemoryEnd, MemoryEnd]:
        await trio.lowlevel.checkpoint()
        return open_memory_pair()

    await check_two_way_stream(make, None)


async def test_a_reset_discards_unread_data() -> None:
    """The other end fails when it reads or writes, and gets nothing that was sent before."""
    ours, theirs = open_memory_pair()
    await ours.send_all(b"unread")
    ours.reset()
    await ours.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"late")


async def test_an_orderly_close_is_not_a_reset() -> None:
    """Sent data is read first, then the end."""
    ours, theirs = open_memory_pair()
    await ours.send_all(b"last words")
    await ours.aclose()
    assert await theirs.receive_some() == b"last words"
    assert await theirs.receive_some() == b""
