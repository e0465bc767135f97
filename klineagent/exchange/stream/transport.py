"""The stream under the websocket: sees that it is read seldom, in large pieces, and while alive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from klineagent.exchange.stream.frames import Coalescing

# The exchange pings every three minutes (spot: every 20 s) whatever its streams have to say. A peer
# that vanished without a word is noticed by nothing else.
DEAD_AFTER_S = 400
# Of one read. A millisecond or two of work: timers and requests get their turn between two.
READ_BYTES = 512 * 1024
# A read that brings so much, from an exchange that is quicker than that in a pause: there is more.
PLENTY_BYTES = 64 * 1024
# A wake-up costs as much for one frame as for a hundred, so frames gather in the kernel meanwhile.
# Longer pauses save little more: what is left is work for each frame.
READ_INTERVAL_S = 0.02
_NEARLY = 1e-6


class Transport(trio.abc.Stream):
    """`stream`, the exchange at its other end, as the library for websockets is to see it.

    What it receives are merged frames (see `Coalescing`), and what it makes of them is to be
    redeemed. Reads of all transports take turns in common: they wake up at the same moments, each
    at most once in `READ_INTERVAL_S`, unless there was more to read than one read takes.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._frames = Coalescing()
        self._next_read_at = -math.inf
        self.ended = trio.Event()
        """Set when nothing more comes; the library does not tell those who wait for it."""

    def redeem(self, message: str | bytes) -> list[bytes]:
        """The texts of the exchange for which the library's next `message` stands."""
        return self._frames.redeem(message)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`, but for `max_bytes`, which is not kept to.

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
                # A whole number of pauses, however floats round it: not this very moment again.
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
                reason = f"nothing came for {DEAD_AFTER_S} s"
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
