"""The byte stream under the websocket library: few, large reads, and a timeout for dead peers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from klineagent.exchange.stream.frames import Coalescing

# The exchange pings every three minutes (spot: every 20 s), however quiet streams are. Only this
# timeout notices a peer that vanished without closing.
DEAD_AFTER_S = 400
# The size of one read: a millisecond or two of work, so that timers and requests run in between.
READ_BYTES = 512 * 1024
# After a read of this size more data is likely to wait, so the next read follows at once.
PLENTY_BYTES = 64 * 1024
# A wake-up costs as much for one frame as for a hundred, so frames gather in the kernel meanwhile.
# Longer intervals save little more: the remaining work is per frame.
READ_INTERVAL_S = 0.02
_NEARLY = 1e-6


class Transport(trio.abc.Stream):
    """Wraps `stream`, a connection to the exchange, for the websocket library.

    The library receives coalesced frames (see `Coalescing`), and its messages must be redeemed.
    All transports wake up to read at the same moments, each at most once in `READ_INTERVAL_S`,
    unless the last read left data behind.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._frames = Coalescing()
        self._next_read_at = -math.inf
        self.ended = trio.Event()
        """Set when nothing more will arrive: the library does not wake its waiters then."""

    def redeem(self, message: str | bytes) -> list[bytes]:
        """Return the exchange's texts for which the library's next `message` stands."""
        return self._frames.redeem(message)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`; `max_bytes` is ignored.

        Raises:
            trio.BrokenResourceError: the peer has vanished.
        """
        while True:
            await trio.sleep_until(self._next_read_at)
            received = await self._receive()
            if not received:
                self.ended.set()
                return b""
            if len(received) < PLENTY_BYTES:
                # The next whole multiple, and never this moment again, however floats round.
                passed = math.floor(trio.current_time() / READ_INTERVAL_S + _NEARLY)
                self._next_read_at = (passed + 1) * READ_INTERVAL_S
            if frames := self._frames.feed(received):
                return frames

    async def _receive(self) -> bytes | bytearray:
        with self._noting_the_end():
            try:
                with trio.fail_after(DEAD_AFTER_S):
                    return await self._stream.receive_some(READ_BYTES)
            except trio.TooSlowError:
                reason = f"no data for {DEAD_AFTER_S} s"
                raise trio.BrokenResourceError(reason) from None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        with self._noting_the_end():
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()

    @contextmanager
    def _noting_the_end(self) -> Iterator[None]:
        try:
            yield
        except trio.BrokenResourceError:
            self.ended.set()
            raise
