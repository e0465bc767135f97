"""The spool's contract on a disk that works, is full, or fails."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from klineagent.core.errors import SpoolBroken, SpoolError, SpoolFull
from klineagent.storage.memory.disk import MemoryDisk, Step
from klineagent.storage.spool import segment
from klineagent.storage.spool.disk import Disk, Files, Folder
from klineagent.storage.spool.folders import SpoolFolders
from klineagent.storage.spool.segment import Contents, boot_of
from klineagent.storage.spool.spool import Spool, open_spool
from klineagent.storage.store import Batch
from tests.places import EARLIER
from tests.storage.spools import NO_LIMIT, candles, dead_letters, drained, filled, updates

SEGMENTS = EARLIER / "spool"
ONE = len(segment.encode(Contents(updates(1))))
"""How long the file of a small batch is, give or take a few bytes."""


def _retry_all(files: Files) -> None:
    folders = SpoolFolders()
    folders.refresh(files)
    for name in folders.dead.names:
        folders.retry(files, name)


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """One of each kind, empty."""
    return Folder(tmp_path) if request.param == "folder" else MemoryDisk()


@pytest.fixture
async def spool(disk: Disk) -> AsyncIterator[Spool]:
    """An empty spool with room for everything."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        yield spool


async def test_batches_leave_as_they_came(spool: Spool) -> None:
    """Token, rows and table are those of the batch."""
    batches = [candles(number, rows=number) for number in range(1, 13)]
    for batch in batches:
        await spool.append(batch)
    assert await drained(spool) == batches


@pytest.mark.parametrize("number", range(3))
async def test_files_of_a_newer_agent_stay_where_they_are(
    disk: Disk, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever folder they lie in, the start is refused and names the version that reads them."""
    with monkeypatch.context() as patch:
        patch.setattr(segment, "FORMAT", 3)
        patch.setattr(segment, "__version__", "4.5.6")
        async with open_spool(disk, limit_bytes=NO_LIMIT) as newer:
            keep = (newer.append, newer.append, partial(newer.set_aside, reason="refused"))
            await keep[number]((candles(1), updates(1), candles(1))[number])
            rows, size = newer.rows, newer.bytes
    for _ in range(2):
        with pytest.raises(SpoolError, match=r"klineagent 4\.5\.6 wrote it"):
            async with open_spool(disk, limit_bytes=NO_LIMIT):
                pass
    monkeypatch.setattr(segment, "FORMAT", 3)
    async with open_spool(disk, limit_bytes=NO_LIMIT) as newer:
        assert (newer.rows, newer.bytes, newer.damaged) == (rows, size, 0)


async def test_the_spool_of_an_earlier_agent_is_emptied(tmp_path: Path) -> None:
    """Commit 3f94213 left it full: its batches leave as they are, a dead letter is retried."""
    shutil.copytree(SEGMENTS, tmp_path / "spool")
    disk = Folder(tmp_path / "spool")
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        assert (spool.segments, spool.rows, spool.dead_letters, spool.damaged) == (3, 32, 1, 0)
        await disk.run(_retry_all)
        await spool.refresh()
        batches = await drained(spool)
    assert [len(batch.klines) for batch in batches] == [5, 15, 1, 12]
    assert [batch.token for batch in batches if "retry" not in batch.token] == [
        "old-1",
        "old-2",
        "old-3",
    ]


async def test_candles_leave_before_updates(spool: Spool) -> None:
    """Each table keeps its order."""
    for number in (1, 2):
        await spool.append(updates(number))
        await spool.append(candles(number))
    assert await drained(spool) == [candles(1), candles(2), updates(1), updates(2)]


async def test_the_oldest_stays_until_it_is_acknowledged(spool: Spool) -> None:
    """Asking takes nothing away; acknowledging twice does no harm."""
    await spool.append(candles(1))
    await spool.append(candles(2))
    segment = await spool.oldest()
    assert segment is not None
    assert await spool.oldest() == segment
    await spool.acknowledge(segment)
    await spool.acknowledge(segment)
    assert await drained(spool) == [candles(2)]


async def test_it_tells_what_it_holds(spool: Spool) -> None:
    """Batches, rows and bytes, without looking at the disk."""
    assert (spool.is_empty, spool.segments, spool.rows, spool.bytes) == (True, 0, 0, 0)
    await spool.append(candles(1, rows=7))
    await spool.append(updates(1, rows=5))
    await spool.set_aside(candles(2, rows=1), "no such column")
    assert (spool.is_empty, spool.segments, spool.rows) == (False, 2, 12)
    assert 3 * ONE // 2 < spool.bytes < 6 * ONE
    assert (spool.dead_letters, spool.damaged, spool.dropped_updates) == (1, 0, 0)
    await drained(spool)
    assert (spool.is_empty, spool.segments, spool.rows) == (True, 0, 0)
    assert 0 < spool.bytes < 2 * ONE


async def test_an_empty_batch_needs_no_file(spool: Spool) -> None:
    """An empty batch is not kept."""
    await spool.append(Batch("a", ()))
    await spool.set_aside(Batch("a", ()), "why not")
    assert spool.bytes == 0


async def test_it_is_there_after_a_restart(disk: Disk) -> None:
    """With all it held; new batches come after the old."""
    for number in range(3):
        async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
            assert (spool.segments, spool.rows) == (number, 3 * number)
            await spool.append(candles(number))
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        assert await drained(spool) == [candles(0), candles(1), candles(2)]


async def test_two_agents_never_share_one(disk: Disk) -> None:
    """The second fails, and the error says what to do."""
    async with open_spool(disk, limit_bytes=NO_LIMIT):
        with pytest.raises(SpoolError, match="in use by another agent"):
            async with open_spool(disk, limit_bytes=NO_LIMIT):
                raise AssertionError("it was opened twice")


async def test_dead_letters_wait_apart(disk: Disk) -> None:
    """They keep their reason, and are not sent."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.set_aside(updates(1), "Too many partitions (code 252)")
        assert await spool.oldest() is None
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        assert spool.dead_letters == 1
        [letter] = await disk.run(dead_letters)
    assert letter == Contents(updates(1), "Too many partitions (code 252)")


async def test_a_retried_dead_letter_is_delivered(disk: Disk) -> None:
    """An operator's command beside the agent: the rows come first in line, under a new token."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.set_aside(candles(1), "not in this house")
        await spool.append(candles(2))
        await disk.run(_retry_all)
        assert spool.dead_letters == 1
        await spool.refresh()
        assert (spool.dead_letters, spool.segments, spool.rows) == (0, 2, 6)
        first, second = await drained(spool)
    assert first.klines == candles(1).klines
    assert first.token != candles(1).token
    assert second == candles(2)


async def test_files_may_go_at_any_time(disk: Disk) -> None:
    """What an operator deletes is not missed."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        for number in (1, 2, 3):
            await spool.append(candles(number))
        segment = await spool.oldest()
        assert segment is not None
        await disk.run(lambda files: files.unlink(f"candles/{segment.name}"))
        assert (await spool.oldest()) != segment
        await spool.acknowledge(segment)
        assert (spool.segments, spool.rows) == (2, 6)
        assert await drained(spool) == [candles(2), candles(3)]


async def test_appending_and_delivering_may_overlap(spool: Spool) -> None:
    """Nothing is lost or comes twice between tasks."""
    delivered: list[Batch] = []
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(spool.append, candles(number, rows=50))
        while len(delivered) < 40:
            delivered += await drained(spool)
            await trio.lowlevel.checkpoint()
    assert {batch.token for batch in delivered} == {f"candles-{number}" for number in range(40)}
    assert len(delivered) == 40


async def test_a_cancelled_append_is_all_or_nothing(spool: Spool) -> None:
    """And the next one works."""
    for number in range(20):
        with trio.move_on_after(0.0002 * number):
            await spool.append(candles(number, rows=100))
    await spool.append(candles(99))
    *found, last = await drained(spool)
    assert last == candles(99)
    assert all(batch == candles(int(batch.token[8:]), rows=100) for batch in found)


# The limit.


@pytest.mark.logs("spool_filling")
async def test_the_oldest_updates_give_way(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """To candles and to newer updates; how many rows and of when is logged and counted."""
    async with open_spool(disk, limit_bytes=5 * ONE + ONE // 2) as spool:
        for number in range(5):
            await spool.append(updates(number))
        assert spool.dropped_updates == 0
        await spool.append(candles(1))
        await spool.append(updates(5))
        assert spool.bytes <= spool.limit_bytes
        left = await drained(spool)
    assert left[0] == candles(1)
    assert left[1:] == [updates(number) for number in range(6)][-len(left) + 1 :]
    dropped = 6 - len(left[1:])
    assert spool.dropped_updates == 3 * dropped
    logged = [each for each in caplog.records if each.getMessage() == "updates_dropped"]
    assert len(logged) == dropped
    assert vars(logged[0])["rows"] == 3
    assert vars(logged[0])["first"] == "2026-02-01T00:00:00.001+00:00"
    assert vars(logged[0])["last"] == "2026-02-01T00:00:00.003+00:00"


@pytest.mark.logs("spool_filling")
async def test_candles_never_give_way(disk: Disk) -> None:
    """The batch that does not fit is refused, whichever it is, and updates are not shed in vain."""
    async with open_spool(disk, limit_bytes=4 * ONE) as spool:
        await spool.append(updates(1))
        kept = await filled(spool)
        assert 2 <= len(kept) <= 4
        oldest = await spool.oldest()
        assert oldest is not None
        await spool.acknowledge(oldest)
        await spool.append(updates(2))
        before = spool.segments
        for batch in (candles(11, rows=500), updates(11, rows=500)):
            with pytest.raises(SpoolFull, match=f"its limit of {4 * ONE} bytes is reached"):
                await spool.append(batch)
        with pytest.raises(SpoolFull):
            await spool.set_aside(candles(12, rows=500), "no")
        assert spool.segments == before
        assert await drained(spool) == [*kept[1:], updates(2)]


@pytest.mark.logs("spool_filling")
async def test_what_an_operator_deleted_was_not_given_up(disk: Disk) -> None:
    """It makes room all the same."""
    async with open_spool(disk, limit_bytes=3 * ONE) as spool:
        for number in (1, 2):
            await spool.append(updates(number))
        segment = await spool.oldest()
        assert segment is not None
        await disk.run(lambda files: files.unlink(f"updates/{segment.name}"))
        await spool.append(candles(1, rows=10))
        assert spool.dropped_updates == 0
        assert await drained(spool) == [candles(1, rows=10), updates(2)]


@pytest.mark.logs("spool_filling")
async def test_filling_up_is_told_once(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """At 80 %; again only after there was ample room in between."""

    def logged() -> int:
        return [each.getMessage() for each in caplog.records].count("spool_filling")

    async with open_spool(disk, limit_bytes=10 * ONE) as spool:
        for number in range(6):
            await spool.append(updates(number))
        assert logged() == 0
        for number in range(6, 30):
            await spool.append(updates(number))
        assert logged() == 1
        await drained(spool)
        for number in range(30):
            await spool.append(updates(number))
        assert logged() == 2


@pytest.mark.logs("spool_filling")
async def test_a_restart_with_a_full_spool_tells_so(disk: Disk) -> None:
    """The limit may be lower than it was."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        for number in range(5):
            await spool.append(candles(number))
    async with open_spool(disk, limit_bytes=ONE) as spool:
        assert len(await drained(spool)) == 5


# Faults of the disk.


async def test_a_full_disk_refuses_and_keeps() -> None:
    """The batch is the caller's to keep; what was there stays, and is the way to make room."""
    disk = MemoryDisk(capacity_bytes=4 * ONE)
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        kept = await filled(spool)
        with pytest.raises(SpoolFull, match="spool memory:: No space left on device"):
            await spool.append(updates(1, rows=500))
        assert await drained(spool) == kept
        await spool.append(candles(99))
        assert await drained(spool) == [candles(99)]
    assert disk.paths == ["boot"]


async def test_a_spool_opens_on_a_full_disk() -> None:
    """Otherwise it could not be emptied."""
    disk = MemoryDisk()
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
    with disk.full():
        async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
            with pytest.raises(SpoolFull):
                await spool.append(candles(2))
            assert await drained(spool) == [candles(1)]


async def test_a_broken_disk_is_no_place_to_start() -> None:
    """A spool that could keep nothing is not opened."""
    disk = MemoryDisk()
    with disk.failing_sync(), pytest.raises(SpoolBroken, match="Input/output error"):
        async with open_spool(disk, limit_bytes=NO_LIMIT):
            raise AssertionError("it is broken")


@pytest.mark.parametrize("step", [Step.WRITE, Step.SYNC, Step.RENAME, Step.SYNC_FOLDER])
async def test_a_failed_write_is_given_up(step: Step) -> None:
    """Whichever step it was, the file is gone and the next batch has one of its own."""
    disk = MemoryDisk()
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
        with disk.failing(step), pytest.raises(SpoolBroken, match="Input/output error"):
            await spool.append(candles(2))
        assert spool.segments == 1
        assert len(disk.paths) == 2
        await spool.append(candles(2))
        assert await drained(spool) == [candles(1), candles(2)]


async def test_what_cannot_be_removed_does_no_harm() -> None:
    """A file that was given up and is still there is gone after the next start."""
    disk = MemoryDisk()
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        with disk.failing_sync(), disk.failing(Step.UNLINK), pytest.raises(SpoolBroken):
            await spool.append(candles(1))
        await spool.append(candles(2))
        assert len(disk.paths) == 3
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        assert await drained(spool) == [candles(2)]
    assert disk.paths == ["boot"]


async def test_a_failed_acknowledgement_changes_nothing() -> None:
    """The batch is still the oldest, and may be acknowledged again."""
    disk = MemoryDisk()
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
        segment = await spool.oldest()
        assert segment is not None
        with disk.failing(Step.UNLINK), pytest.raises(SpoolBroken):
            await spool.acknowledge(segment)
        assert await spool.oldest() == segment
        assert await drained(spool) == [candles(1)]


# Names.


def _boots(disk: MemoryDisk) -> list[int]:
    return [boot_of(path.rpartition("/")[2]) for path in disk.paths if "/" in path]


async def test_every_run_has_a_number_of_its_own() -> None:
    """The number is higher than all before, even if no file of those is left."""
    disk = MemoryDisk()
    for boot in (1, 2, 3):
        async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
            await spool.append(candles(boot))
            assert _boots(disk) == [boot]
            await drained(spool)


@pytest.mark.parametrize("content", [None, b"", b"seven", b"-5", b"\x00\x00"])
async def test_a_lost_counter_is_found_again(content: bytes | None) -> None:
    """It follows from the existing names, including those of dead letters."""
    disk = MemoryDisk()
    for boot in range(7):
        async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
            await spool.set_aside(candles(boot), "no")
    if content is None:
        disk.unlink("boot")
    else:
        disk.damage("boot", content)
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(9))
    assert max(_boots(disk)) == 8
