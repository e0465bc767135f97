"""When what waits for stream clients is sent."""

from __future__ import annotations

from typing import NoReturn

import trio
from attrs import define, field

from klineagent.reading.streams.outbox import Outbox

# A send costs as much as fifty events, so those of a moment share one. States of forming candles
# are a second apart anyway.
SOON_S = 0.01
LATER_S = 0.1


@define(eq=False)
class Flush:
    """Sends what waits for clients: at once, but at most every so often."""

    _every_s: float
    _outboxes: list[Outbox] = field(factory=list, init=False)
    _has_some: trio.Event = field(factory=trio.Event, init=False)

    def put(self, outbox: Outbox) -> None:
        """Flush `outbox` with the next turn."""
        self._outboxes.append(outbox)
        self._has_some.set()

    async def run(self) -> NoReturn:
        """Send in turns."""
        while True:
            await self._has_some.wait()
            outboxes, self._outboxes = self._outboxes, []
            self._has_some = trio.Event()
            for outbox in outboxes:
                outbox.flush()
            await trio.sleep(self._every_s)
