"""The writer keeps what it accepts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

import pytest
import structlog
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from klineagent.core.errors import RowsRefused, StoreAnswerUnknown
from klineagent.core.kline import Kline
from klineagent.storage.memory.disk import MemoryDisk, Step
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.spool import Spool, open_spool
from klineagent.storage.store import Batch
from klineagent.storage.writing import writer as writer_module
from klineagent.storage.writing.losses import Losses
from klineagent.storage.writing.writer import SPOOL_EVERY_S, Writer, open_writer
from tests.klines import a_kline
from tests.storage.slow_disk import SlowDisk


def _writer(
    store: MemoryStore,
    *,
    batch_rows: int = 100,
    capacity_rows: int = 1000,
    drain_s: float = 3,
    spool: Spool | None = None,
    keep_updates: bool = False,
    losses: Losses | None = None,
) -> AbstractAsyncContextManager[Writer]:
    return open_writer(
        store,
        flush_interval_s=1,
        batch_rows=batch_rows,
        capacity_rows=capacity_rows,
        drain_timeout_s=drain_s,
        spool=spool,
        keep_updates=keep_updates,
        losses=losses,
    )


@define(kw_only=True)
class RecordingStore(MemoryStore):
    """A store that records its batches and refuses candles of given minutes."""

    batches: list[Batch] = field(factory=list)
    refused: frozenset[int] = frozenset()

    async def insert(self, batch: Batch) -> None:
        self.batches.append(batch)
        if self.refused & {kline.open_time for kline in batch.klines}:
            await trio.lowlevel.checkpoint()
            raise RowsRefused("not in this house")
        await super().insert(batch)


@contextmanager
def _logged() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as events:
        yield events  # type: ignore[misc]  # structlog's own alias of the same


def _minutes(store: MemoryStore) -> list[int]:
    return sorted((kline.open_time - a_kline().open_time) // 60_000 for kline in _stored(store))


def _stored(store: MemoryStore) -> list[Kline]:
    return list(store.klines.values())


async def test_leaving_the_block_stores_what_was_accepted(autojump_clock: MockClock) -> None:
    """Rows sent just before the end are stored, not dropped with the channel."""
    store = MemoryStore()
    async with _writer(store, batch_rows=7) as writer:
        for minute in range(25):
            await writer.klines.send([a_kline(minute)])
    assert _minutes(store) == list(range(25))
    assert (writer.stored, writer.rows_waiting) == (25, 0)


async def test_a_cancelled_agent_still_drains(autojump_clock: MockClock) -> None:
    """The drain is shielded from whatever ends the block."""
    store = MemoryStore()
    with trio.CancelScope() as scope:
        async with _writer(store) as writer:
            await writer.klines.send([a_kline(minute) for minute in range(5)])
            scope.cancel()
    assert len(_stored(store)) == 5


async def test_the_error_that_ends_the_block_survives_the_drain(autojump_clock: MockClock) -> None:
    """Draining neither hides nor replaces the error."""
    store = MemoryStore()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="the body failed")):
        async with _writer(store) as writer:
            await writer.klines.send([a_kline()])
            raise RuntimeError("the body failed")
    assert len(_stored(store)) == 1


async def test_rows_are_flushed_in_batches_about_every_interval(autojump_clock: MockClock) -> None:
    """Many small sends become few inserts, and none waits longer than the interval."""
    store = RecordingStore()
    async with _writer(store) as writer:
        for minute in range(30):
            await writer.klines.send([a_kline(minute)])
            await trio.sleep(0.1)
        await trio.sleep(1.01)
        assert len(_stored(store)) == 30
    assert 3 <= len(store.batches) <= 4


async def test_an_outage_is_waited_out_with_the_identical_batch(autojump_clock: MockClock) -> None:
    """The batch that was under way is sent again under its token, rows and order unchanged."""
    store = RecordingStore()
    async with _writer(store) as writer:
        with _logged() as events, store.offline():
            await writer.klines.send([a_kline(0)])
            await trio.sleep(50)
            await writer.klines.send([a_kline(1)])
            await trio.sleep(50)
        await trio.sleep(60)
        assert _minutes(store) == [0, 1]
        first = [batch for batch in store.batches if a_kline(0) in batch.klines]
        assert len(first) > 2
        assert len(set(first)) == 1
    assert {event["event"] for event in events} == {"store_unavailable"}
    assert len(events) == 2  # once, and again after a minute


async def test_tokens_never_repeat_for_other_rows(autojump_clock: MockClock) -> None:
    """Equal rows sent later still travel under a token of their own."""
    store = RecordingStore()
    async with _writer(store) as writer:
        for _ in range(3):
            await writer.klines.send([a_kline()])
            await trio.sleep(5)
    assert len({batch.token for batch in store.batches}) == 3


async def test_a_drain_that_fails_ends_in_time_and_says_what_is_lost(
    autojump_clock: MockClock,
) -> None:
    """A store that stays away costs the drain's deadline and a log line, not the exit."""
    store = MemoryStore()
    started = trio.current_time()
    with _logged() as events, store.offline():
        async with _writer(store, drain_s=3) as writer:
            await writer.klines.send([a_kline(0), a_kline(1)])
    assert trio.current_time() - started == pytest.approx(3)
    assert [event for event in events if event["event"] == "rows_lost"] == [
        {"event": "rows_lost", "log_level": "error", "rows": 2}
    ]


@pytest.mark.logs("rows_dropped")
async def test_senders_never_wait_for_the_store(autojump_clock: MockClock) -> None:
    """During an outage of an hour senders never wait, and memory stays bounded."""
    store = MemoryStore()
    async with _writer(store, capacity_rows=50) as writer:
        with store.offline():
            for minute in range(60):
                with trio.fail_after(1):
                    await writer.klines.send([a_kline(minute)])
                await trio.sleep(60)
            assert writer.rows_waiting <= 50 + 100
            assert writer.waiting.dropped_closed > 0
        await trio.sleep(60)
        assert len(_stored(store)) + writer.waiting.dropped_closed == 60


async def test_a_refused_row_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    """The bad row is found by halving, logged whole and counted; the rest is stored."""
    bad = a_kline(13)
    store = RecordingStore(refused=frozenset({bad.open_time}))
    with _logged() as events:
        async with _writer(store) as writer:
            await writer.klines.send([a_kline(minute) for minute in range(40)])
    assert _minutes(store) == [minute for minute in range(40) if minute != 13]
    assert (writer.stored, writer.refused) == (39, 1)
    assert [event["row"] for event in events if event["event"] == "row_refused"] == [tuple(bad)]


@pytest.mark.parametrize("rows", [1, 40])
async def test_a_table_that_takes_nothing_is_an_alarm_and_costs_no_row(
    autojump_clock: MockClock, rows: int
) -> None:
    """If every row is refused, the table is to blame: rows wait until it is repaired."""
    store = RecordingStore(refused=frozenset(a_kline(minute).open_time for minute in range(40)))
    with _logged() as events:
        async with _writer(store) as writer:
            await writer.klines.send([a_kline(minute) for minute in range(rows)])
            await trio.sleep(100)
            assert writer.rows_waiting == rows
            store.refused = frozenset()
            await trio.sleep(100)
            assert len(_stored(store)) == rows
    assert [event["event"] for event in events][-1] == "store_back"
    assert {event["event"] for event in events} == {"store_unavailable", "store_back"}
    assert writer.refused == 0


async def test_a_store_that_is_back_before_the_stop_gets_everything(
    autojump_clock: MockClock,
) -> None:
    """The drain does not sleep through its deadline in a pause that an outage made long."""
    for outage_s in range(100, 140):
        store = MemoryStore()
        async with _writer(store, drain_s=3) as writer:
            with store.offline():
                await writer.klines.send([a_kline()])
                await trio.sleep(outage_s)
            await trio.sleep(0.1)
        assert len(_stored(store)) == 1


async def test_in_an_outage_closed_candles_go_to_disk_and_come_back(
    autojump_clock: MockClock,
) -> None:
    """Memory holds the rows of some seconds; everything is stored when the database is back."""
    store, disk = MemoryStore(), MemoryDisk()
    async with open_spool(disk, limit_bytes=10**9) as spool, _writer(store, spool=spool) as writer:
        with store.offline():
            for minute in range(120):
                await writer.klines.send([a_kline(minute)])
                await trio.sleep(60)
                assert writer.rows_waiting < 10
            assert spool.rows > 100
        await trio.sleep(120)
        assert spool.is_empty
        assert _minutes(store) == list(range(120))


async def test_forming_candles_stay_in_memory_where_they_replace_themselves(
    autojump_clock: MockClock,
) -> None:
    """Forming candles come again, so they are not spooled."""
    store, disk = MemoryStore(), MemoryDisk()
    async with open_spool(disk, limit_bytes=10**9) as spool, _writer(store, spool=spool) as writer:
        with store.offline():
            for after_ms in range(0, 50_000, 100):
                await writer.klines.send([a_kline(0, is_closed=False, after_ms=after_ms)])
                await trio.sleep(0.1)
            assert spool.is_empty
            assert writer.rows_waiting <= 2
        await trio.sleep(60)
        assert [kline.event_time for kline in _stored(store)] == [
            a_kline(0, after_ms=49_900).event_time
        ]


async def test_a_drain_that_fails_leaves_its_rows_on_disk(autojump_clock: MockClock) -> None:
    """The batch that was under way keeps its token: its outcome is unknown."""
    store, disk = RecordingStore(), MemoryDisk()
    with store.losing_answers():
        async with (
            open_spool(disk, limit_bytes=10**9) as spool,
            _writer(store, spool=spool) as writer,
        ):
            await writer.klines.send([a_kline(0)])
            await trio.sleep(2)
            await writer.klines.send([a_kline(1)])
    async with open_spool(disk, limit_bytes=10**9) as spool:
        assert spool.rows == 2
        segment = await spool.oldest()
        assert segment is not None
        assert segment.batch == store.batches[0]
        async with _writer(store, spool=spool):
            await trio.sleep(30)
        assert spool.is_empty
    assert _minutes(store) == [0, 1]


@pytest.mark.logs("spool_unusable", "rows_dropped")
async def test_what_neither_database_nor_disk_take_is_given_up_and_told(
    autojump_clock: MockClock,
) -> None:
    """The drop is reported, so that the candle is fetched again."""
    store, disk = MemoryStore(), MemoryDisk()
    lost: list[Kline] = []
    losses = Losses(dropped=lost.extend)
    async with (
        open_spool(disk, limit_bytes=10**9) as spool,
        _writer(store, spool=spool, capacity_rows=50, losses=losses) as writer,
    ):
        with store.offline(), disk.full():
            for minute in range(120):
                await writer.klines.send([a_kline(minute)])
                await trio.sleep(10)
        await trio.sleep(120)
        assert spool.is_empty
    given_up = [(kline.open_time - a_kline().open_time) // 60_000 for kline in lost]
    assert sorted(_minutes(store) + given_up) == list(range(120))
    assert given_up


@pytest.mark.logs("row_refused")
async def test_a_refused_row_is_kept_as_a_dead_letter(autojump_clock: MockClock) -> None:
    """The dead letter has the database's reason, and the refusal is reported."""
    bad = a_kline(13)
    store, disk = RecordingStore(refused=frozenset({bad.open_time})), MemoryDisk()
    refused: list[Kline] = []
    losses = Losses(refused=refused.extend)
    async with (
        open_spool(disk, limit_bytes=10**9) as spool,
        _writer(store, spool=spool, losses=losses) as writer,
    ):
        await writer.klines.send([a_kline(minute) for minute in range(40)])
        await trio.sleep(5)
        assert spool.dead_letters == 1
    assert refused == [bad]


@pytest.mark.parametrize("keep_updates", [False, True])
@pytest.mark.parametrize("drain_s", [0.1, 0.4, 0.7, 1.0])
async def test_a_drain_that_ends_while_the_disk_is_busy_loses_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, drain_s: float, keep_updates: bool
) -> None:
    """Rows about to be written are held by the writer only."""
    monkeypatch.setattr(writer_module, "SPOOL_ROWS", 30)
    monkeypatch.setattr(writer_module, "SPOOL_WITHIN_S", 10)
    store, disk = MemoryStore(), SlowDisk()
    async with open_spool(disk, limit_bytes=10**9) as spool:
        with store.offline():
            async with _writer(
                store, spool=spool, drain_s=drain_s, keep_updates=keep_updates
            ) as writer:
                await writer.klines.send([a_kline(100)])
                await trio.sleep(5)
                await writer.klines.send([a_kline(minute) for minute in range(100)])
                await trio.sleep(SPOOL_EVERY_S - 5 + 0.1)
        async with _writer(store, spool=spool) as writer:
            await trio.sleep(60)
    assert _minutes(store) == list(range(101))
    if keep_updates:
        assert len(await store.updates("usdm", "BTCUSDT", "1m")) == 101


@pytest.mark.logs("spool_unusable")
async def test_rows_on_their_way_to_the_disk_still_wait(autojump_clock: MockClock) -> None:
    """They are held nowhere else yet; rows that a failing disk returns count once."""
    store, disk = MemoryStore(), SlowDisk()
    async with open_spool(disk, limit_bytes=10**9) as spool, _writer(store, spool=spool) as writer:
        with store.offline():
            await writer.klines.send([a_kline(100)])
            await trio.sleep(5)
            await writer.klines.send([a_kline(minute) for minute in range(100)])
            with disk.failing(Step.SYNC):
                await trio.sleep(SPOOL_EVERY_S - 5 + 0.1)
                assert (len(writer.waiting), spool.rows, writer.rows_waiting) == (0, 0, 101)
                await trio.sleep(2 * disk.takes_s)
                assert (len(writer.waiting), spool.rows, writer.rows_waiting) == (100, 0, 101)
            await trio.sleep(3 * SPOOL_EVERY_S)
            assert (spool.rows, writer.rows_waiting) == (100, 1)


async def test_rows_are_lost_by_number_where_there_is_no_time_for_the_disk(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were on their way to it among them."""
    monkeypatch.setattr(writer_module, "SPOOL_ROWS", 30)
    monkeypatch.setattr(writer_module, "SPOOL_WITHIN_S", 0.1)
    store, disk = MemoryStore(), SlowDisk()
    async with open_spool(disk, limit_bytes=10**9) as spool:
        with store.offline(), _logged() as events:
            async with _writer(store, spool=spool, drain_s=0.1, keep_updates=True) as writer:
                await writer.klines.send([a_kline(100)])
                await trio.sleep(5)
                await writer.klines.send([a_kline(minute) for minute in range(100)])
                await trio.sleep(SPOOL_EVERY_S - 5 + 0.1)
        [lost] = [event["rows"] for event in events if event["event"] == "rows_lost"]
        # The newest states, and all states as updates.
        assert spool.rows + int(str(lost)) == 2 * 101


async def test_what_a_failing_disk_gives_back_at_the_very_end_is_told(
    autojump_clock: MockClock,
) -> None:
    """The store has all that waited and the writer could end, but for rows in other hands."""
    store, disk = MemoryStore(), SlowDisk(takes_s=2)
    async with open_spool(disk, limit_bytes=10**9) as spool:
        with disk.full(), _logged() as events:
            async with _writer(store, spool=spool, capacity_rows=10, batch_rows=1000) as writer:
                # More than half of what there is room for: the disk is asked at once.
                await writer.klines.send([a_kline(minute) for minute in range(6)])
                await trio.sleep(0.1)
    [lost] = [event["rows"] for event in events if event["event"] == "rows_lost"]
    assert len(_stored(store)) + int(str(lost)) == 6


async def test_what_lies_in_the_spool_stays_there_once_however_often_it_is_restarted(
    autojump_clock: MockClock,
) -> None:
    """Also when the disk is full, and without an alarm: it is not lost."""
    store, disk = MemoryStore(), MemoryDisk()
    async with open_spool(disk, limit_bytes=10**9) as spool:
        with store.offline():
            async with _writer(store, spool=spool) as writer:
                await writer.klines.send([a_kline(minute) for minute in range(20)])
                await trio.sleep(60)
            for fault in (nullcontext(), disk.full()):
                with fault:
                    async with _writer(store, spool=spool):
                        await trio.sleep(60)
                assert (spool.segments, spool.rows) == (1, 20)
        async with _writer(store, spool=spool):
            await trio.sleep(60)
        assert spool.is_empty
    assert _minutes(store) == list(range(20))


async def test_every_update_is_stored_where_that_is_wanted(autojump_clock: MockClock) -> None:
    """Beside the newest state of each candle, also after an outage."""
    store, disk = MemoryStore(), MemoryDisk()
    states = [a_kline(0, is_closed=False, after_ms=each) for each in range(0, 50_000, 1000)]
    async with (
        open_spool(disk, limit_bytes=10**9) as spool,
        _writer(store, spool=spool, keep_updates=True) as writer,
    ):
        with store.offline():
            for state in states:
                await writer.klines.send([state])
                await trio.sleep(1)
        await trio.sleep(60)
    assert await store.updates("usdm", "BTCUSDT", "1m") == states
    assert len(_stored(store)) == 1


@pytest.mark.logs("store_unavailable", "rows_lost")
async def test_an_answer_nobody_knows_becomes_an_alarm(autojump_clock: MockClock) -> None:
    """It is retried at first; the tenth time it is logged as an alarm."""

    class PuzzlingStore(MemoryStore):
        async def insert(self, batch: Batch) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreAnswerUnknown("code 123456")

    async with _writer(PuzzlingStore(), drain_s=0.1) as writer:
        await writer.klines.send([a_kline(0, is_closed=False)])
        await trio.sleep(600)


async def test_rows_that_were_just_handed_over_are_not_taken_for_stored(
    autojump_clock: MockClock,
) -> None:
    """For a moment only the task that runs next holds them; then they are at risk."""
    rows = [a_kline(0), a_kline(1)]
    async with _writer(MemoryStore()) as writer:
        await wait_all_tasks_blocked()
        assert writer.at_risk() == []
        writer.klines.send_nowait(rows[:1])
        writer.klines.send_nowait(rows[1:])
        assert writer.at_risk() is None
        await wait_all_tasks_blocked()
        assert writer.at_risk() == rows
        writer.klines.send_nowait([a_kline(2)])
        assert writer.at_risk() is None
        await trio.sleep(2)
        assert writer.at_risk() == []
