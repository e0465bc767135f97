"""Damaged files in a spool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from klineagent.core.errors import SpoolBroken
from klineagent.storage.memory.disk import MemoryDisk, Step
from klineagent.storage.spool.disk import Folder
from klineagent.storage.spool.spool import Spool, open_spool
from klineagent.storage.store import Batch
from tests.storage.spools import NO_LIMIT, candles, drained, updates

ROWS = 400  # so that a page lies within the file
PAGE = 4096

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated header": lambda data: data[:7],
    "header only": lambda data: data[:14],
    "torn": lambda data: data[: len(data) // 2],
    "longer than it was": lambda data: data + data,
    "zero page in the middle": lambda data: data[:PAGE] + bytes(PAGE) + data[2 * PAGE :],
    "zero page at the start": lambda data: bytes(PAGE) + data[PAGE:],
    "zeros": lambda data: bytes(len(data)),
    "bad magic": lambda data: b"JUNK" + data[4:],
    "bad format": lambda data: data[:4] + b"\xff\xff" + data[6:],
    "bad length": lambda data: data[:6] + b"\xff\xff\xff\xff" + data[10:],
    "bad checksum": lambda data: data[:10] + b"\x00\x00\x00\x00" + data[14:],
    "bad content": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
}


@pytest.mark.logs("segment_damaged")
@pytest.mark.parametrize("damaged", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("make", [candles, updates])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_exactly_the_damaged_one_is_set_apart(
    damage: str,
    make: Callable[[int, int], Batch],
    damaged: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others are sent, it is kept as it is, and its name is logged once."""
    batches = [make(number, ROWS) for number in range(3)]
    async with open_spool(Folder(tmp_path), limit_bytes=NO_LIMIT) as spool:
        for batch in batches:
            await spool.append(batch)
    path = _segments(tmp_path)[damaged]
    content = DAMAGES[damage](path.read_bytes())
    path.write_bytes(content)
    for _ in range(2):
        async with open_spool(Folder(tmp_path), limit_bytes=NO_LIMIT) as spool:
            found = await drained(spool)
            assert spool.damaged == 1
            assert spool.is_empty
            for batch in found:
                await spool.append(batch)
        assert found == [batch for batch in batches if batch is not batches[damaged]]
    assert [each.read_bytes() for each in _segments(tmp_path / "quarantine")] == [content]
    logged = [each for each in caplog.records if each.getMessage() == "segment_damaged"]
    assert [vars(each)["segment"] for each in logged] == [f"{path.parent.name}/{path.name}"]


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.seg"))


@pytest.fixture
async def disk() -> MemoryDisk:
    """A disk with two batches of candles in a spool that no agent uses."""
    disk = MemoryDisk()
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
        await spool.append(candles(2))
    return disk


@pytest.mark.logs("segment_damaged")
async def test_a_block_that_cannot_be_read_holds_nothing_up(disk: MemoryDisk) -> None:
    """An I/O error of the disk counts as damage."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        with disk.failing(Step.READ):
            assert await spool.oldest() is None
        assert (spool.damaged, spool.segments) == (2, 0)


async def test_a_disk_that_does_nothing_any_more_loses_nothing(disk: MemoryDisk) -> None:
    """Where not even a name can be changed, the files stay where they are."""
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        with disk.failing(Step.READ), disk.failing(Step.RENAME), pytest.raises(SpoolBroken):
            await spool.oldest()
        assert await drained(spool) == [candles(1), candles(2)]


@pytest.mark.logs("spool_filling")
async def test_damaged_updates_give_way_like_others() -> None:
    """Room is made by deleting them, not by keeping them elsewhere."""
    disk = MemoryDisk()
    async with open_spool(disk, limit_bytes=NO_LIMIT) as spool:
        await spool.append(updates(1))
        size = spool.bytes
    [path] = [path for path in disk.paths if "/" in path]
    disk.damage(path, bytes(size))
    async with open_spool(disk, limit_bytes=size) as spool:
        await spool.append(updates(2, rows=1))
        assert (spool.dropped_updates, spool.damaged) == (3, 0)
        assert await _only(spool) == updates(2, rows=1)


async def _only(spool: Spool) -> Batch:
    [batch] = await drained(spool)
    return batch
