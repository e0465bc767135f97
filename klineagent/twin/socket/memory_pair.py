"""A connection in memory that can be reset, as a TCP connection can."""

from __future__ import annotations

import trio
from attrs import define


@define
class _Reset:
    has_happened: bool = False


@define(eq=False)
class MemoryEnd(trio.abc.Stream):
    """One end of a connection; the other end buffers any amount of data."""

    _stream: trio.abc.Stream
    _ours: _Reset
    _theirs: _Reset

    def reset(self) -> None:
        """Break the other end and discard its unread data; then this end must be closed."""
        self._theirs.has_happened = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        self._check()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        data = await self._stream.receive_some(max_bytes)
        self._check()
        return data

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()

    def _check(self) -> None:
        if self._ours.has_happened:
            raise trio.BrokenResourceError("connection reset by peer")


def open_memory_pair() -> tuple[MemoryEnd, MemoryEnd]:
    """Open a connection and return both ends."""
    # Imported late: it imports pytest if that is installed, and most twins use real sockets.
    from trio.testing import memory_stream_pair

    resets = _Reset(), _Reset()
    one, other = memory_stream_pair()
    return MemoryEnd(one, *resets), MemoryEnd(other, *reversed(resets))
