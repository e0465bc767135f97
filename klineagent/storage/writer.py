"""The one task that writes klines: memory channel -> conflated batches -> store."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog
import trio
from attrs import define, field

from klineagent.backoff import Backoff
from klineagent.errors import RowsRefused, StoreError, StoreMisconfigured, StoreOverloaded
from klineagent.kline import Kline
from klineagent.storage.conflation import Conflation
from klineagent.storage.store import Batch, Store
from klineagent.trouble import Trouble

# The collector waits for nothing but this channel and empties it whenever it runs, so what waits
# here is what the readers sent within one pass of the scheduler: a few rows, a few kB.
CHANNEL_BATCHES = 1024
# This many rows refused and none accepted: it is the table that does not fit, not the rows.
REFUSALS_BEFORE_ALARM = 16
DRAIN_RETRY_S = 0.2

log = structlog.get_logger()


@define(eq=False, kw_only=True)
class Writer:
    """Takes klines from a channel and sees that the store gets them."""

    store: Store
    flush_interval_s: float
    batch_rows: int
    waiting: Conflation
    klines: trio.MemorySendChannel[list[Kline]]
    """Where klines go in; senders never wait for the store."""
    stored: int = field(default=0, init=False)
    """Rows the store has acknowledged."""
    refused: int = field(default=0, init=False)
    """Rows the store will never take; each stands in the log."""
    _in_flight: int = field(default=0, init=False)
    _accepting: bool = field(default=False, init=False)
    """Whether the last batch stored anything: one row alone does not tell bad from refused."""
    _tell_at_dropped: int = field(default=1, init=False)
    _sequence: int = field(default=0, init=False)
    # Tokens must differ between runs of the agent, or the server drops the new run's rows.
    _run: str = field(factory=lambda: secrets.token_hex(6), init=False)

    @property
    def rows_waiting(self) -> int:
        """Rows accepted and not yet acknowledged by the store."""
        return len(self.waiting) + self._in_flight

    async def write(self, klines: trio.MemoryReceiveChannel[list[Kline]]) -> None:
        """Write what comes over `klines` until every sender has closed and all of it is stored."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._store_batches)
            with klines:
                async for rows in klines:
                    self.waiting.put(rows)
                    self._tell_of_drops()
            self.waiting.end()

    def _tell_of_drops(self) -> None:
        dropped = self.waiting.dropped_closed
        if dropped >= self._tell_at_dropped:
            # At the 1st, 2nd, 4th, ...: enough to see it, too few to drown the log.
            self._tell_at_dropped = 2 * dropped
            log.error("candles_dropped", candles=dropped, rows_waiting=self.rows_waiting)

    async def _store_batches(self) -> None:
        while True:
            try:
                rows = await self.waiting.take(most=self.batch_rows, within_s=self.flush_interval_s)
            except trio.EndOfChannel:
                return
            self._in_flight = len(rows)
            await self._deliver(self._freeze(rows))
            self._in_flight = 0

    def _freeze(self, rows: tuple[Kline, ...]) -> Batch:
        """Give `rows` a token that no other content ever has."""
        self._sequence += 1
        checksum = zlib.crc32(msgspec.msgpack.encode(rows))
        return Batch(f"{self._run}-{self._sequence:08d}-{checksum:08x}", rows)

    async def _deliver(self, batch: Batch) -> None:
        """Send `batch`, the same one each time, until the store has answered for every row."""
        trouble = Trouble("store_unavailable", "store_back")
        backoffs: dict[type[StoreError], Backoff] = {}
        while True:
            try:
                await self._insert(batch)
            except StoreError as error:
                kind = type(error)
                alarm = isinstance(error, StoreMisconfigured)
                trouble.lasts(error, alarm=alarm, rows_waiting=self.rows_waiting)
                backoff = backoffs.setdefault(kind, Backoff(first_s=_first_wait_s(kind)))
                await self._pause(backoff.after())
            else:
                trouble.over()
                return

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try; not for long in a drain, which has a deadline."""
        with trio.move_on_after(seconds):
            await self.waiting.ended.wait()
            await trio.sleep(DRAIN_RETRY_S)

    async def _insert(self, batch: Batch) -> None:
        """Insert `batch`; rows that the store will never take are set aside, the rest goes in.

        Raises:
            StoreError: nothing is lost and the same batch must be sent again.
        """
        try:
            await self.store.insert(batch)
        except RowsRefused as error:
            await self._insert_acceptable(batch, error)
        else:
            self.stored += len(batch.klines)
            self._accepting = True

    async def _insert_acceptable(self, batch: Batch, reason: RowsRefused) -> None:
        """Find the refused rows of `batch` by halving it; the halves are frozen batches, too."""
        accepted = 0
        refused: list[tuple[Kline, RowsRefused]] = []
        parts = [(batch, reason)]
        while parts:
            part, reason = parts.pop()
            if len(part.klines) == 1:
                refused.append((part.klines[0], reason))
                if not accepted and len(refused) == REFUSALS_BEFORE_ALARM:
                    break
                continue
            middle = len(part.klines) // 2
            for rows in (part.klines[middle:], part.klines[:middle]):
                half = self._freeze(rows)
                try:
                    await self.store.insert(half)
                except RowsRefused as half_refused:
                    parts.append((half, half_refused))
                else:
                    accepted += len(rows)
        if not accepted and (len(batch.klines) > 1 or not self._accepting):
            raise StoreMisconfigured(f"{self.store.label} takes none of the rows: {reason}")
        self._accepting = accepted > 0
        self.stored += accepted
        self.refused += len(refused)
        for kline, why in refused:
            log.error("row_refused", error=str(why), row=tuple(kline))


def _first_wait_s(kind: type[StoreError]) -> float:
    if issubclass(kind, StoreMisconfigured):
        return 30
    return 5 if issubclass(kind, StoreOverloaded) else 0.2


@asynccontextmanager
async def open_writer(
    store: Store,
    *,
    flush_interval_s: float,
    batch_rows: int,
    capacity_rows: int,
    drain_timeout_s: float,
) -> AsyncIterator[Writer]:
    """A writer in front of `store`.

    On leaving the block, however it is left, what was accepted is written within
    `drain_timeout_s`; what could not be is logged with its number.
    """
    send, receive = trio.open_memory_channel[list[Kline]](CHANNEL_BATCHES)
    writer = Writer(
        store=store,
        flush_interval_s=flush_interval_s,
        batch_rows=batch_rows,
        waiting=Conflation(capacity=capacity_rows, full_batch=batch_rows),
        klines=send,
    )
    # Shielded, so that a cancelled agent still drains; its deadline is set when the drain begins.
    drain = trio.CancelScope(shield=True)

    async def write() -> None:
        with drain:
            await writer.write(receive)
        if writer.rows_waiting:
            log.error("rows_lost", rows=writer.rows_waiting, drain_timeout_s=drain_timeout_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            with send:
                yield writer
        finally:
            drain.deadline = trio.current_time() + drain_timeout_s
