"""Refused rows are found and set aside; good ones are stored, whatever they came with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
import structlog
import trio
from attrs import define, field
from trio.testing import MockClock

from klineagent.core.kline import Kline
from klineagent.storage.clickhouse.embedded import EmbeddedStore
from klineagent.storage.clickhouse.server import ClickHouseStore
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.memory.store import MemoryStore
from klineagent.storage.spool.folders import SpoolFolders
from klineagent.storage.spool.segment import Contents
from klineagent.storage.spool.spool import Spool, open_spool
from klineagent.storage.store import Batch, Store, Table
from klineagent.storage.writing import inserter as delivery_module
from klineagent.storage.writing.inserter import SIFT_INSERTS
from klineagent.storage.writing.losses import Losses
from klineagent.storage.writing.refused import LINES_A_MINUTE, TRY_FORMING_AFTER_S, RowKind
from klineagent.storage.writing.writer import Writer, open_writer
from tests.klines import a_kline
from tests.storage.spools import dead_letters
from tests.storage.test_store import rows_of

refused_rows = pytest.mark.logs("row_refused")
a_bad_table = pytest.mark.logs("store_unavailable")


@define(kw_only=True)
class CountingStore(MemoryStore):
    """A store that remembers when it was sent how many rows."""

    inserts: list[tuple[float, int]] = field(factory=list)

    async def insert(self, batch: Batch) -> None:
        self.inserts.append((trio.current_time(), len(batch.klines)))
        await super().insert(batch)


@define(kw_only=True)
class Recording:
    """A writer with a spool on disk, and the rows it reported."""

    writer: Writer
    spool: Spool
    disk: MemoryDisk
    reported_refused: list[Kline]

    def letters(self) -> list[Contents]:
        return dead_letters(self.disk)

    def set_aside(self) -> list[Kline]:
        return [row for letter in self.letters() for row in letter.batch.klines]

    async def send(self, *rows: Kline) -> None:
        await self.writer.klines.send(list(rows))


@asynccontextmanager
async def _recording(
    store: Store, *, disk: MemoryDisk | None = None, keep_updates: bool = False
) -> AsyncIterator[Recording]:
    disk, reported = disk or MemoryDisk(), list[Kline]()
    async with (
        open_spool(disk, limit_bytes=10**9) as spool,
        open_writer(
            store,
            flush_interval_s=1,
            batch_rows=5000,
            capacity_rows=100_000,
            drain_timeout_s=3,
            spool=spool,
            keep_updates=keep_updates,
            losses=Losses(refused=reported.extend),
        ) as writer,
    ):
        yield Recording(writer=writer, spool=spool, disk=disk, reported_refused=reported)


def of(symbol: str, minute: int = 0, *, is_closed: bool = True, after_ms: int = 60_050) -> Kline:
    """A row of `symbol`."""
    return a_kline(minute, is_closed=is_closed, after_ms=after_ms)._replace(symbol=symbol)


def _bad(row: Kline) -> bool:
    return row.symbol.startswith("BAD")


async def _alter(store: Store, change: str) -> None:
    """Change table `klines` of a real database."""
    match store:
        case ClickHouseStore():
            await rows_of(store, f"ALTER TABLE {{db}}.klines {change}")
        case EmbeddedStore():
            query = f"ALTER TABLE market.klines {change}"
            await store._writing.run(lambda session: session.query(query))


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - a real database sends no event
            await trio.sleep(0.1)


def _stored(store: MemoryStore) -> set[Kline]:
    return set(store.klines.values())


def _interspersed(good: int, bad: int) -> list[Kline]:
    rows = [of(f"GOOD{number}") for number in range(good)]
    rows += [of(f"BAD{number}") for number in range(bad)]
    random.Random(bad).shuffle(rows)
    return rows


@refused_rows
@pytest.mark.parametrize("has_stored", [True, False])
@pytest.mark.parametrize("bad", [1, 2, 3, 16, 17, 40, 499])
@pytest.mark.parametrize("bad_come", ["first", "last", "anywhere"])
async def test_good_rows_are_stored_whatever_is_refused_beside_them(
    autojump_clock: MockClock, bad: int, has_stored: bool, bad_come: str
) -> None:
    """Any number, in any order, whether the store took rows before or not; each ends somewhere."""
    rows = _interspersed(60, bad)
    if bad_come != "anywhere":
        rows.sort(key=_bad, reverse=bad_come == "first")
    store = CountingStore()
    async with _recording(store) as recording:
        if has_stored:
            await recording.send(of("GOOD0", -1))
            await trio.sleep(2)
        with store.refusing(_bad):
            await recording.send(*rows)
            await trio.sleep(60)
        assert {row for row in _stored(store) if row.open_time == rows[0].open_time} == {
            row for row in rows if not _bad(row)
        }
        assert sorted(recording.set_aside()) == sorted(filter(_bad, rows))
        assert sorted(recording.reported_refused) == sorted(filter(_bad, rows))
        assert (recording.writer.refused, recording.writer.rows_waiting) == (bad, 0)
        assert recording.writer.inserter.is_up


@refused_rows
async def test_a_batch_of_nothing_but_refused_rows_does_not_stop_the_writer(
    autojump_clock: MockClock,
) -> None:
    """A row that was stored before is taken again, so it is not the table."""
    store = MemoryStore()
    async with _recording(store) as recording:
        await recording.send(of("GOOD"))
        await trio.sleep(2)
        with store.refusing(_bad):
            await recording.send(*(of("BAD", minute) for minute in range(1, 3)))
            await trio.sleep(5)
            for minute in range(10, 190):
                await recording.send(of("GOOD", minute))
                await trio.sleep(1.01)
                assert of("GOOD", minute) in _stored(store)
        assert len(recording.set_aside()) == 2


@a_bad_table
@refused_rows
async def test_rows_that_wait_tell_whether_the_table_is_to_blame(
    autojump_clock: MockClock,
) -> None:
    """Without stored rows a refusal may mean either; the first good row decides."""
    store = MemoryStore()
    async with _recording(store) as recording:
        with store.refusing(_bad):
            await recording.send(*(of("BAD", minute) for minute in range(3)))
            await trio.sleep(50)
            assert not recording.letters()
            assert not recording.writer.inserter.is_up
            await recording.send(of("GOOD"))
            await trio.sleep(31)
        assert _stored(store) == {of("GOOD")}
        assert len(recording.set_aside()) == 3


@a_bad_table
@pytest.mark.parametrize("has_stored", [True, False])
async def test_a_table_that_refuses_everything_is_an_operators_matter(
    autojump_clock: MockClock, has_stored: bool
) -> None:
    """Also what it took before: all rows are kept, few inserts tried, and nothing is set aside."""
    rows = [of(f"S{number}") for number in range(3000)]
    store = CountingStore()
    async with _recording(store) as recording:
        if has_stored:
            await recording.send(of("S0", -1), of("S1", -1))
            await trio.sleep(2)
        with store.refusing(lambda _: True):
            await recording.send(*rows)
            await trio.sleep(300)
            assert recording.writer.refused == 0
            assert not recording.letters()
            tried_at = [at for at, _ in store.inserts]
            assert max(Counter(tried_at).values()) < 100
            assert len(set(tried_at)) < 15
        await trio.sleep(40)
        assert set(rows) <= _stored(store)


@a_bad_table
@refused_rows
async def test_a_table_that_breaks_while_refused_rows_are_looked_for(
    autojump_clock: MockClock,
) -> None:
    """What was refused since is not held against the rows."""
    rows = _interspersed(400, 100)
    store = CountingStore()
    async with _recording(store) as recording:
        await recording.send(of("GOOD0", -1))
        await trio.sleep(2)
        with store.refusing(_bad):
            await recording.send(*rows)
            await trio.sleep(1.5)
            assert recording.writer.inserter.suspects
            with store.refusing(lambda _: True):
                await trio.sleep(100)
            await trio.sleep(60)
        assert sorted(recording.set_aside()) == sorted(filter(_bad, rows))


@refused_rows
async def test_looking_for_refused_rows_leaves_time_for_others(autojump_clock: MockClock) -> None:
    """A tenth of a large batch is refused; rows that come meanwhile are stored within a flush."""
    rows = _interspersed(4501, 499)
    store = CountingStore()
    async with _recording(store) as recording:
        with store.refusing(_bad):
            await recording.send(*rows)
            await trio.sleep(1.5)
            for minute in range(1, 60):
                await recording.send(of("OTHER", minute))
                await trio.sleep(1.05)
                assert of("OTHER", minute) in _stored(store)
        assert sorted(recording.set_aside()) == sorted(filter(_bad, rows))
        assert len(_stored(store)) == 4501 + 59
        assert len(recording.letters()) < 60
    per_second = Counter(int(at) for at, _ in store.inserts)
    # One batch, one look at whether it is the table, and what the search may take.
    assert max(per_second.values()) <= 2 * (SIFT_INSERTS + 5)


@refused_rows
async def test_of_far_too_many_refused_rows_each_is_kept(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no time to look at each alone: they are set aside together; memory is bounded."""
    monkeypatch.setattr(delivery_module, "MOST_SUSPECTS", 1000)
    store = MemoryStore()
    async with _recording(store) as recording:
        await recording.send(of("GOOD"), of("BAD", -1))
        await trio.sleep(2)
        with store.refusing(_bad):
            for second in range(20):
                await recording.send(*(of("BAD", 300 * second + minute) for minute in range(300)))
                await trio.sleep(1)
                assert recording.writer.rows_waiting < 2000
            await recording.send(of("GOOD", 1))
            await trio.sleep(1.1)
            assert of("GOOD", 1) in _stored(store)
            await trio.sleep(60)
        assert len(recording.set_aside()) == 20 * 300


@refused_rows
async def test_forming_rows_are_dropped_and_told_of_once(autojump_clock: MockClock) -> None:
    """They come again: no dead letter, a line a minute, and the next one in five minutes."""
    store, disk = CountingStore(), MemoryDisk()
    with structlog.testing.capture_logs() as events:
        async with _recording(store, disk=disk) as recording:
            with store.refusing(_bad):
                for tick in range(600):
                    await recording.send(
                        of("GOOD", tick // 60, is_closed=False, after_ms=tick % 60 * 1000),
                        of("BAD", tick // 60, is_closed=False, after_ms=tick % 60 * 1000),
                    )
                    await trio.sleep(1)
            writer = recording.writer
            assert writer.inserter.refused_series.counts == {RowKind.FORMING: 2}
            assert writer.inserter.refused_series.withheld > 590
            assert not recording.letters()
    assert [event["event"] for event in events if event["log_level"] == "error"] == [
        "row_refused",
        "row_refused",
    ]
    structlog.get_logger().error("row_refused")  # captured above


@refused_rows
async def test_a_series_is_like_any_other_once_a_closed_row_was_taken(
    autojump_clock: MockClock,
) -> None:
    """Its forming rows are stored from the next one on, without waiting for five minutes."""
    store = MemoryStore()
    async with _recording(store) as recording:
        await recording.send(of("GOOD"))
        with store.refusing(lambda row: row == of("BAD", 0)):
            await recording.send(of("BAD", 0))
            await trio.sleep(3)
        await recording.send(of("BAD", 1, is_closed=False, after_ms=1))
        await trio.sleep(3)
        assert of("BAD", 1, is_closed=False, after_ms=1) not in _stored(store)
        await recording.send(of("BAD", 1))
        await trio.sleep(3)
        await recording.send(of("BAD", 2, is_closed=False, after_ms=1))
        await trio.sleep(3)
        assert {of("BAD", 1), of("BAD", 2, is_closed=False, after_ms=1)} <= _stored(store)


@refused_rows
async def test_a_forming_row_is_tried_again_after_some_minutes(autojump_clock: MockClock) -> None:
    """Without waiting for the next month's candle to close."""
    store = MemoryStore()
    async with _recording(store) as recording:
        await recording.send(of("GOOD"))
        with store.refusing(_bad):
            await recording.send(of("BAD", is_closed=False))
            await trio.sleep(3)
        for after_ms in range(60_051, 60_051 + int(TRY_FORMING_AFTER_S) + 5):
            await recording.send(of("BAD", is_closed=False, after_ms=after_ms))
            await trio.sleep(1)
        assert of("BAD", is_closed=False, after_ms=after_ms - 1) in _stored(store)


@refused_rows
async def test_hundreds_of_refused_series_do_not_flood_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first have a line each; all others share one a minute that counts them."""
    store = MemoryStore()
    async with _recording(store) as recording:
        await recording.send(of("GOOD"))
        await trio.sleep(2)
        with store.refusing(_bad):
            for minute in range(10):
                await recording.send(*(of(f"BAD{number}", minute) for number in range(300)))
                await trio.sleep(60)
        assert len(recording.set_aside()) == 3000
        assert len(recording.letters()) < 200
    logged = [record for record in caplog.records if record.getMessage() == "row_refused"]
    assert LINES_A_MINUTE <= len(logged) < LINES_A_MINUTE + 12
    assert sum(record.rows for record in logged) > 2000  # type: ignore[attr-defined]  # structlog's


@refused_rows
async def test_refused_rows_that_come_from_the_spool(autojump_clock: MockClock) -> None:
    """After an outage, or by an operator's retry: the file goes once each row is answered for."""
    store, disk = MemoryStore(), MemoryDisk()
    rows = _interspersed(300, 30)
    async with _recording(store, disk=disk) as recording:
        with store.offline():
            await recording.send(of("GOOD0"))
            await trio.sleep(2)
            await recording.send(*rows)
            await trio.sleep(30)
            assert recording.spool.rows == 330
        with store.refusing(_bad):
            await trio.sleep(30)
        assert recording.spool.is_empty
        assert sorted(recording.set_aside()) == sorted(filter(_bad, rows))
    assert _stored(store) == {row for row in rows if not _bad(row)}


@refused_rows
async def test_suspects_survive_a_stop(autojump_clock: MockClock) -> None:
    """Suspects not tried in time go to the spool, and the next run tries them."""
    store, disk = CountingStore(), MemoryDisk()
    rows = _interspersed(100, 100)
    with store.refusing(_bad), ExitStack() as stop:
        async with _recording(store, disk=disk) as recording:
            await recording.send(of("GOOD0", -1))
            await trio.sleep(2)
            await recording.send(*rows)
            await trio.sleep(1.05)
            assert (left := recording.writer.inserter.suspects.rows)
            stop.enter_context(store.slow(100))
        stop.close()
        async with _recording(store, disk=disk) as recording:
            assert recording.spool.rows == left
            await recording.send(of("GOOD0"))
            await trio.sleep(60)
            assert recording.spool.is_empty
            assert sorted(recording.set_aside()) == sorted(filter(_bad, rows))
    assert {row for row in rows if not _bad(row)} <= _stored(store)


@refused_rows
async def test_updates_are_sifted_in_their_own_table(autojump_clock: MockClock) -> None:
    """Every good state is there; of the refused ones only the closed are kept."""
    store = MemoryStore()
    states = [of("GOOD", is_closed=False, after_ms=after) for after in range(0, 50_000, 1000)]
    bad = [row._replace(symbol="BAD") for row in states] + [of("BAD")]
    async with _recording(store, keep_updates=True) as recording:
        await recording.send(of("GOOD", -1))
        await trio.sleep(2)
        with store.refusing(_bad):
            for one, other in zip(states, bad, strict=False):
                await recording.send(one, other)
            await recording.send(bad[-1])
            await trio.sleep(30)
        assert await store.updates("usdm", "GOOD", "1m") == [of("GOOD", -1), *states]
        tables = Counter(letter.batch.table for letter in recording.letters())
        assert tables == {Table.KLINES: 1, Table.UPDATES: 1}
        assert set(recording.set_aside()) == {of("BAD")}


with_constraints = pytest.mark.parametrize("store_url", ["chdb", "modern_server"], indirect=True)


@with_constraints
@refused_rows
async def test_rows_that_a_constraint_refuses(store: Store) -> None:
    """Good rows are in the table, the others are dead letters, and go in once it lets them."""
    await store.prepare()
    await _alter(store, "ADD CONSTRAINT good CHECK NOT startsWith(symbol, 'BAD')")
    rows = _interspersed(200, 20)
    async with _recording(store) as recording:
        await recording.send(*rows)
        writer = recording.writer
        await _until(lambda: writer.stored + writer.refused == len(rows))
        assert sorted(recording.set_aside()) == sorted(filter(_bad, rows))
        stored = {series.symbol for series in await store.summary()}
        assert stored == {row.symbol for row in rows if not _bad(row)}
        await _alter(store, "DROP CONSTRAINT good")
        for path in [path for path in recording.disk.paths if path.startswith("dead/")]:
            SpoolFolders().retry(recording.disk, path.removeprefix("dead/"))
        await recording.spool.refresh()
        while not recording.spool.is_empty:
            await recording.send(rows[0])
            await trio.sleep(0.1)
    assert len(await store.summary()) == len(rows)


@with_constraints
@a_bad_table
async def test_a_constraint_that_refuses_all_is_no_fault_of_the_rows(store: Store) -> None:
    """They wait, though some like them were stored before, and go in once it is gone."""
    await store.prepare()
    rows = _interspersed(200, 0)
    async with _recording(store) as recording:
        await recording.send(of("GOOD0", -1))
        await _until(lambda: recording.writer.stored == 1)
        await _alter(store, "ADD CONSTRAINT nothing CHECK trades = 0")
        await recording.send(*rows)
        await _until(lambda: not recording.writer.inserter.is_up)
        assert (recording.writer.rows_waiting, recording.writer.refused) == (200, 0)
        await _alter(store, "DROP CONSTRAINT nothing")
    assert sum(series.closed for series in await store.summary()) == 201
