"""What was accepted before a flush is stored after it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio
from trio.testing import MockClock

from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.spool import Spool, open_spool
from klineagent.storage.writing.writer import SPOOL_EVERY_S, Writer, open_writer
from tests.klines import a_kline

FLUSH_INTERVAL_S = 10


def _writer(store: MemoryStore, spool: Spool | None = None) -> AbstractAsyncContextManager[Writer]:
    return open_writer(
        store,
        flush_interval_s=FLUSH_INTERVAL_S,
        batch_rows=100,
        capacity_rows=1000,
        drain_timeout_s=3,
        spool=spool,
    )


async def test_a_flush_does_not_wait_for_a_batch(autojump_clock: MockClock) -> None:
    """The rows are stored at once, and the watermark says so."""
    store = MemoryStore()
    async with _writer(store) as writer:
        for minute in range(3):
            await writer.klines.send([a_kline(minute)])
            await trio.sleep(0.5)
            begun = trio.current_time()
            await writer.watermark.flush()
            assert trio.current_time() - begun < 1
            assert len(await store.final_klines("usdm", "BTCUSDT", "1m")) == minute + 1
            assert writer.watermark.stored_to == begun


async def test_a_flush_of_nothing_ends(autojump_clock: MockClock) -> None:
    """Where no row ever came, all of them are stored."""
    async with _writer(MemoryStore()) as writer:
        await trio.sleep(1000)
        assert writer.watermark.stored_to is None
        await writer.watermark.flush()
        assert writer.watermark.stored_to == trio.current_time()


async def test_a_flush_waits_for_a_store_that_is_away(autojump_clock: MockClock) -> None:
    """It ends when the rows are stored, and the watermark stays below them until then."""
    store = MemoryStore()
    async with _writer(store) as writer:
        await writer.watermark.flush()
        before = writer.watermark.stored_to
        with store.offline():
            await writer.klines.send([a_kline()])
            with trio.move_on_after(5) as patience:
                await writer.watermark.flush()
            assert patience.cancelled_caught
            assert writer.watermark.stored_to == before
        await writer.watermark.flush()
        assert await store.final_klines("usdm", "BTCUSDT", "1m") == [a_kline()]


async def test_a_flush_waits_for_the_spool(autojump_clock: MockClock) -> None:
    """What was moved to disk while the store was away is older, and has to be stored, too."""
    store = MemoryStore()
    async with (
        open_spool(MemoryDisk(), limit_bytes=1_000_000) as spool,
        _writer(store, spool) as writer,
    ):
        with store.offline():
            await writer.klines.send([a_kline()])
            await trio.sleep(2 * FLUSH_INTERVAL_S)
            await writer.klines.send([a_kline(1)])  # behind the batch that is being sent
            await trio.sleep(2 * SPOOL_EVERY_S)
            assert spool.rows == 1
            with trio.move_on_after(5) as patience:
                await writer.watermark.flush()
            assert patience.cancelled_caught
        await writer.watermark.flush()
        assert spool.rows == 0
        assert await store.final_klines("usdm", "BTCUSDT", "1m") == [a_kline(), a_kline(1)]
