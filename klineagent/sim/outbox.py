"""What is still to be written to one client."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field

# A client may fall this far behind, beyond what the kernel holds for it: some 25,000 events, six
# seconds of a thousand live streams. Then it is dropped, as the exchange drops slow clients.
_MOST_UNSENT_BYTES = 8 * 1024 * 1024


@define(eq=False)
class Outbox:
    """Bytes in order, put by many and taken by one writer."""

    _emptied: Callable[[], None] = lambda: None
    """Called when all has been taken and more is wanted; it may put some."""
    _unsent: bytearray = field(init=False, factory=bytearray)
    _is_closed: bool = field(init=False, default=False)
    _changed: trio.Event = field(init=False, factory=trio.Event)

    def put(self, data: bytes) -> bool:
        """Append `data`, or drop it after `close`; False if the client is too far behind for it."""
        if self._is_closed or not data:
            return True
        if len(self._unsent) + len(data) > _MOST_UNSENT_BYTES:
            return False
        self._unsent += data
        self._changed.set()
        return True

    def close(self) -> None:
        """Accept no more; what is there will still be taken."""
        self._is_closed = True
        self._changed.set()

    def drop(self) -> None:
        """Forget what is there."""
        self._unsent.clear()

    async def take(self) -> bytes:
        """Everything there is, waiting for something; empty once closed and emptied."""
        while not self._unsent and not self._is_closed:
            self._changed = trio.Event()
            self._emptied()
            await self._changed.wait()
        data = bytes(self._unsent)
        self._unsent.clear()
        return data
