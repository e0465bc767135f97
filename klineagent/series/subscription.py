"""One (symbol, interval): its nursery, its cancel scope, its stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NoReturn

import structlog
import trio
from attrs import define, field

from klineagent.kline import Interval, Kline
from klineagent.market.pool import Pool
from klineagent.market.roster import Stream
from klineagent.market.wire import stream_name

# A symbol that trades speaks every few seconds; the quietest ones pause for minutes.
SILENT_AFTER_S = 300

log = structlog.get_logger()


@define(eq=False, kw_only=True)
class Subscription:
    """Keeps the klines of one series coming until its scope is cancelled."""

    symbol: str
    interval: Interval
    created_at: datetime = field(factory=lambda: datetime.now(UTC), init=False)
    newest: Kline | None = field(default=None, init=False)
    """The last kline that came."""
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _stream: Stream | None = field(default=None, init=False)

    @property
    def stream_name(self) -> str:
        """The name of its stream on the wire."""
        return stream_name(self.symbol, self.interval)

    @property
    def is_active(self) -> bool:
        """Whether a feed carries it at this moment."""
        return self._stream is not None and self._stream.confirmed.is_set()

    async def hold(
        self, check: Callable[[str], Awaitable[None]], pool: Pool, *, confirmed: trio.Event
    ) -> None:
        """Run until `scope` is cancelled; sets `confirmed` once the exchange has confirmed it.

        `check` returns when the symbol may be subscribed; what it raises comes out of here, and
        nothing was started.
        """
        with self.scope:
            await check(self.symbol)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold_stream, pool, confirmed)
                nursery.start_soon(self._watch_silence)

    async def _hold_stream(self, pool: Pool, confirmed: trio.Event) -> None:
        with pool.stream(self.stream_name, self._observe) as self._stream:
            await self._stream.confirmed.wait()
            confirmed.set()
            await trio.sleep_forever()

    async def _watch_silence(self) -> NoReturn:
        """Tell when the stream is confirmed and says nothing: a confirmation proves little."""
        told = False
        while True:
            seen = self.newest
            await trio.sleep(SILENT_AFTER_S)
            silent = self.is_active and self.newest is seen
            if silent and not told:
                log.warning("stream_silent", stream=self.stream_name, for_s=SILENT_AFTER_S)
            told = silent

    def _observe(self, kline: Kline) -> None:
        self.newest = kline
