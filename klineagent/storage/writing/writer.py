"""The only task that writes klines: memory channel -> conflated batches -> store, or spool."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

import structlog
import trio
from attrs import define, field

from klineagent.core.errors import SpoolError
from klineagent.core.kline import Key, Kline
from klineagent.core.retry import Trouble
from klineagent.storage.spool.spool import Spool
from klineagent.storage.store import Batch, Store, Table
from klineagent.storage.writing.buffer import Conflation, Updates
from klineagent.storage.writing.inserter import Acknowledged, Batcher, Inserter
from klineagent.storage.writing.losses import Losses, ignore
from klineagent.storage.writing.watermark import Watermark

# The collector waits for this channel only, and empties it whenever it runs: it holds what was sent
# within one pass of the scheduler, a few rows or a few kB.
CHANNEL_BATCHES = 1024
# Rows wait in memory for a store that is away for a moment; if it stays away, they go to the spool
# in batches large enough to be inserted quickly later.
SPOOL_EVERY_S = 10.0
SPOOL_ROWS = 20_000
# How long stopping may take, after the drain, to move what is left to disk.
SPOOL_WITHIN_S = 1.0
# How often the spool's folders are listed anew, for an operator may have put batches back.
REFRESH_EVERY_S = 10.0
# A whole market closes at the end of a minute; collecting so many rows takes a millisecond.
MOST_AT_RISK = 10_000

log = structlog.get_logger()


class RowLocation(enum.Enum):
    """Where a row waits on its way to the store."""

    MEMORY = "memory"
    SPOOL = "the spool"
    NEITHER = "neither"


@define(eq=False, kw_only=True)
class Writer:
    """Takes klines from a channel, and writes them to the store.

    While the store is away, closed candles go to the spool, if there is one, so that memory holds
    only forming candles and the rows of a few seconds. Without a spool, or when it is full, they
    wait in memory up to a limit; rows dropped then are counted and reported, to be fetched again.
    """

    waiting: Conflation
    updates: Updates | None
    inserter: Inserter
    spool: Spool | None
    losses: Losses
    flush_interval_s: float
    batch_rows: int
    klines: trio.MemorySendChannel[list[Kline]]
    """Where klines go in; senders never wait for the store."""
    spooled: int = field(default=0, init=False)
    """Rows written to disk so far; rows written twice count twice."""
    _spooling: int = field(default=0, init=False)
    """Rows being written to disk, and held nowhere else."""
    _spooled_last: tuple[Kline, ...] = field(default=(), init=False)
    watermark: Watermark = field(init=False)
    """Up to when everything that was accepted is stored."""
    _pressed: trio.Event = field(factory=trio.Event, init=False)
    """Set when memory is half full."""
    _tell_at_dropped: int = field(default=1, init=False)
    _spool_trouble: Trouble = field(
        factory=lambda: Trouble("spool_unusable", "spool_usable"), init=False
    )

    def __attrs_post_init__(self) -> None:
        self.watermark = Watermark(self.waiting.hurry)

    @property
    def store(self) -> Store:
        """The store the klines are written to."""
        return self.inserter.store

    @property
    def stored(self) -> int:
        """Rows the store has acknowledged."""
        return self.inserter.stored

    @property
    def refused(self) -> int:
        """Rows the store will never take; closed candles among them were set aside."""
        return self.inserter.refused

    @property
    def spool_error(self) -> str:
        """Why the spool takes no rows; empty while it does."""
        return self._spool_trouble.error

    @property
    def rows_waiting(self) -> int:
        """Rows in memory, accepted and not yet acknowledged by the store."""
        waiting = len(self.waiting) + self._updates_waiting
        return waiting + self._spooling + self.inserter.rows_under_way

    @property
    def others(self) -> tuple[Kline, ...]:
        """Rows in memory that wait behind the batch being sent."""
        return self.waiting.rows() + self._spooled_last

    @property
    def _updates_waiting(self) -> int:
        return len(self.updates) if self.updates is not None else 0

    @property
    def updates_dropped(self) -> int:
        """States dropped because memory or the spool was full."""
        in_memory = self.updates.dropped if self.updates is not None else 0
        return in_memory + (self.spool.dropped_updates if self.spool is not None else 0)

    async def locate_row(self, key: Key) -> RowLocation:
        """Find where a closed state of that candle waits for the store's acknowledgement.

        Raises:
            SpoolError: the spool cannot be searched, because the disk failed.
        """
        # In the order in which rows move, so that none is missed between two checks.
        if self.waiting.holds(key) or self.inserter.holds(key):
            return RowLocation.MEMORY
        if self.spool is not None and await self.spool.holds(key):
            return RowLocation.SPOOL
        return RowLocation.NEITHER

    def at_risk(self) -> list[Kline] | None:
        """Collect closed candles neither stored nor spooled, which would be lost with this process.

        Returns:
            The candles; None if some are on their way between tasks, or too many: ask again later.
        """
        rows_in_hand = self.waiting.closed + self.inserter.rows_under_way
        channel = self.klines.statistics()
        # Unless the collector waits, it was just handed rows that are held nowhere else.
        is_hidden = channel.current_buffer_used or not channel.tasks_waiting_receive
        if is_hidden or self._spooling or rows_in_hand > MOST_AT_RISK:
            return None
        batches = (each for each in self.inserter.unanswered if each.table is Table.KLINES)
        sent = (row for batch in batches for row in batch.klines if row.is_closed)
        return [*self.waiting.closed_rows(), *sent]

    async def room(self) -> None:
        """Wait until the store takes rows, so that fetching some is worthwhile."""
        await self.inserter.reached.wait()

    async def write(self, klines: trio.MemoryReceiveChannel[list[Kline]]) -> None:
        """Write rows from `klines` until all its senders are closed and everything is stored."""
        async with trio.open_nursery() as nursery:
            if self.spool is not None:
                nursery.start_soon(self._fill_spool, self.spool)

            async def store_all() -> None:
                await self._store_all()
                nursery.cancel_scope.cancel(reason="everything is stored")

            nursery.start_soon(store_all)
            with klines:
                async for rows in klines:
                    self._put(rows)
            self.waiting.end()
            self.inserter.hurry.set()

    async def rescue(self) -> None:
        """Move what was not stored to the spool, and log the number of rows then lost."""
        left = self.inserter.give_up()
        if self.spool is not None:
            with trio.move_on_after(SPOOL_WITHIN_S, shield=True):
                while left and await self._spool_batch(self.spool, left[0]):
                    del left[0]
                if not left:
                    await self._spool_waiting(self.spool)
        unanswered = sum(len(batch.klines) for batch in left)
        if lost := self.waiting.closed + self._updates_waiting + unanswered:
            log.error("rows_lost", rows=lost)

    def _put(self, rows: Sequence[Kline]) -> None:
        if self.updates is not None:
            self.updates.put(rows)
        self._await_turn(rows)

    def _await_turn(self, rows: Sequence[Kline]) -> None:
        """Put `rows` into the buffer, and report those it has no room for."""
        if given_up := self.waiting.put(rows):
            self.losses.dropped(given_up)
        if max(self.waiting.closed, self._updates_waiting) > self.waiting.capacity // 2:
            self._pressed.set()
        dropped = self.waiting.dropped_closed
        dropped += self.updates.dropped if self.updates is not None else 0
        if dropped >= self._tell_at_dropped:
            # Logged at the 1st, 2nd, 4th, ... dropped row, so that the log is not flooded.
            self._tell_at_dropped = 2 * dropped
            log.error("rows_dropped", rows=dropped, rows_waiting=self.rows_waiting)

    async def _store_all(self) -> None:
        """Store rows of buffer and spool in turns, until the buffer has ended."""
        refreshed_at = trio.current_time()
        while True:
            if self.spool is not None and trio.current_time() - refreshed_at >= REFRESH_EVERY_S:
                await self._refresh(self.spool)
                refreshed_at = trio.current_time()
            if self.inserter.suspects:
                await self._sift()
                rows = self.waiting.take_nowait(most=self.batch_rows)
            elif self.spool is None or self.spool.is_empty:
                try:
                    rows = await self.waiting.take(
                        most=self.batch_rows, within_s=self.flush_interval_s
                    )
                except trio.EndOfChannel:
                    await self._store_updates()
                    if self.inserter.suspects:
                        continue
                    return
            else:
                await self._empty_spool(self.spool)
                rows = self.waiting.take_nowait(most=self.batch_rows)
            is_all, moment = not len(self.waiting), self.watermark.now()
            await self._store(rows, Table.KLINES)
            await self._store_updates()
            is_spooled = self._spooling or not (self.spool is None or self.spool.is_empty)
            if is_all and not is_spooled and not self.inserter.suspects:
                self.watermark.rise(moment)

    async def _store_updates(self) -> None:
        while self.updates:
            await self._store(self.updates.take(most=SPOOL_ROWS), Table.UPDATES)

    async def _store(self, rows: tuple[Kline, ...], table: Table) -> None:
        if rows and (unsuspected := self.inserter.split(rows, table)):
            await self.inserter.insert(self.inserter.batcher.freeze(unsuspected, table))

    async def _sift(self) -> None:
        """Try suspect rows, then pause so that other rows have their turn."""
        await self.inserter.sift()
        if self.inserter.suspects:
            with trio.move_on_after(self.flush_interval_s):
                await self.inserter.hurry.wait()

    async def _empty_spool(self, spool: Spool) -> None:
        """Store the oldest batch of the spool, and delete its file once acknowledged."""
        try:
            if (segment := await spool.oldest()) is None:
                return
            try:
                await self.inserter.insert(segment.batch)
                while self.inserter.suspects:
                    await self.inserter.sift()
            finally:
                # A drain that ends here leaves the file where it is: nothing needs rescue.
                self.inserter.give_up()
            await spool.acknowledge(segment)
            if spool.is_empty:
                log.info("spool_empty")
        except SpoolError as error:
            self._spool_trouble.lasts(error, alarm=True)
            await trio.sleep(self.flush_interval_s)

    async def _refresh(self, spool: Spool) -> None:
        try:
            await spool.refresh()
        except SpoolError as error:
            self._spool_trouble.lasts(error, alarm=True)

    async def _fill_spool(self, spool: Spool) -> NoReturn:
        """Move closed candles and updates from memory to disk while the store is away or slow."""
        while True:
            with trio.move_on_after(SPOOL_EVERY_S):
                await self._pressed.wait()
            if self._pressed.is_set() or not self.inserter.reached.is_set():
                has_room = await self._spool_waiting(spool)
                self._pressed = trio.Event()
                if not has_room:
                    await trio.sleep(SPOOL_EVERY_S)  # each try packs thousands of rows

    async def _spool_waiting(self, spool: Spool) -> bool:
        """Move closed candles and updates to disk; return whether there was room for all."""
        while rows := self.waiting.take_closed(most=SPOOL_ROWS):
            if not await self._spool_rows(spool, rows, Table.KLINES, self._await_turn):
                return False
        while self.updates:
            rows = self.updates.take(most=SPOOL_ROWS)
            if not await self._spool_rows(spool, rows, Table.UPDATES, self.updates.put_back):
                return False
        return True

    async def _spool_rows(
        self,
        spool: Spool,
        rows: tuple[Kline, ...],
        table: Table,
        put_back: Callable[[tuple[Kline, ...]], None],
    ) -> bool:
        is_kept = False
        self._spooling += len(rows)
        try:
            is_kept = await self._spool_batch(spool, self.inserter.batcher.freeze(rows, table))
        finally:
            self._spooling -= len(rows)
            if not is_kept:  # also when the drain has ended: they are held nowhere else
                put_back(rows)
        return is_kept

    async def _spool_batch(self, spool: Spool, batch: Batch) -> bool:
        try:
            await spool.append(batch)
        except SpoolError as error:
            self._spool_trouble.lasts(error, alarm=True, rows_waiting=self.rows_waiting)
            return False
        self._spool_trouble.over()
        self.spooled += len(batch.klines)
        self._spooled_last = batch.klines
        log.info("rows_spooled", rows=len(batch.klines), segments=spool.segments)
        return True


@asynccontextmanager
async def open_writer(
    store: Store,
    *,
    flush_interval_s: float,
    batch_rows: int,
    capacity_rows: int,
    drain_timeout_s: float,
    spool: Spool | None = None,
    keep_updates: bool = False,
    losses: Losses | None = None,
    acknowledged: Acknowledged = ignore,
) -> AsyncIterator[Writer]:
    """Open a writer in front of `store`.

    However the block is left, accepted rows are written within `drain_timeout_s`, and otherwise go
    to the spool; the number of rows that neither has taken is logged.
    """
    losses = losses or Losses()
    send, receive = trio.open_memory_channel[list[Kline]](CHANNEL_BATCHES)

    async def set_aside(batch: Batch, reason: str) -> str:
        kept = "in the log only"
        if spool is not None:
            try:
                await spool.set_aside(batch, reason)
                kept = "as a dead letter"
            except SpoolError as error:
                kept = f"in the log only: {error}"
        if batch.table is Table.KLINES:
            losses.refused(batch.klines)
        return kept

    writer = Writer(
        waiting=Conflation(capacity=capacity_rows, full_batch=batch_rows),
        updates=Updates(capacity_rows) if keep_updates else None,
        inserter=Inserter(
            store=store,
            batcher=Batcher(),
            set_aside=set_aside,
            acknowledged=acknowledged,
            others=lambda: writer.others,
            rows_waiting=lambda: writer.rows_waiting,
        ),
        spool=spool,
        losses=losses,
        flush_interval_s=flush_interval_s,
        batch_rows=batch_rows,
        klines=send,
    )
    # Shielded, so that a cancelled agent still drains; its deadline is set when the drain begins.
    drain = trio.CancelScope(shield=True)

    async def write() -> None:
        with drain:
            await writer.write(receive)
        # Also where everything was stored: what was on its way to a disk that fails came back.
        await writer.rescue()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            with send:
                yield writer
        finally:
            drain.deadline = trio.current_time() + drain_timeout_s
