"""What a disk in memory loses, and when."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

import pytest

from klineagent.storage.memory.disk import MemoryDisk, ProcessDied, Step
from klineagent.storage.spool.disk import write_durably

SEEDS = range(60)


def _after_crashes(disk: MemoryDisk) -> list[dict[str, bytes]]:
    left = [disk.copy().crash(Random(seed)) for seed in SEEDS]
    return [{path: each.read(path) for path in each.paths} for each in left]


def test_a_durable_file_survives_power_loss() -> None:
    """Whole, whatever happens to the rest."""
    disk = MemoryDisk()
    write_durably(disk, "a", "one", b"content")
    disk.write("two", b"2")
    assert all(files["a/one"] == b"content" for files in _after_crashes(disk))


def test_a_name_that_was_not_synced_may_be_lost() -> None:
    """Each of the states it was in may come back."""
    disk = MemoryDisk()
    disk.write("one", b"1")
    disk.rename("one", "two")
    found = {tuple(files) for files in _after_crashes(disk)}
    assert found == {(), ("one",), ("two",)}


def test_a_deleted_file_may_come_back() -> None:
    """Until its folder is synced."""
    disk = MemoryDisk()
    write_durably(disk, "a", "one", b"1")
    disk.unlink("a/one")
    assert {tuple(files) for files in _after_crashes(disk)} == {(), ("a/one",)}
    disk.sync_folder("a")
    assert {tuple(files) for files in _after_crashes(disk)} == {()}


@pytest.mark.parametrize("step", [Step.SYNC, Step.WRITE])
def test_content_that_was_not_synced_may_be_anything(step: Step) -> None:
    """Nothing, a part, zeros, all of it."""
    disk = MemoryDisk()
    if step is Step.SYNC:
        with disk.failing_sync(), pytest.raises(OSError, match="error"):
            disk.write("one", b"content")
    else:
        disk.die_after(3)
        with pytest.raises(ProcessDied):
            disk.write("one", b"content")
        disk = disk.kill()
    disk.sync_folder("")
    found = {files["one"] for files in _after_crashes(disk)}
    assert {b"", b"content", bytes(7)} < found


def test_what_failed_to_sync_is_never_written_back() -> None:
    """The kernel has marked its pages as clean; other files may still be written."""
    disk = MemoryDisk()
    with disk.failing_sync(), pytest.raises(OSError, match="error"):
        disk.write("one", b"content")
    disk.sync_folder("")
    for seed in SEEDS:
        disk.write_back(Random(seed))
    assert {files["one"] for files in _after_crashes(disk)} > {b""}


def test_what_is_written_back_survives() -> None:
    """Some of what was not synced is as good as synced."""
    disk = MemoryDisk()
    disk.write("one", b"1")
    for seed in SEEDS:
        disk.write_back(Random(seed))
    assert {tuple(files.items()) for files in _after_crashes(disk)} == {(("one", b"1"),)}


def test_a_killed_process_leaves_what_it_wrote() -> None:
    """The kernel has it; an operation that had begun is cut where it was."""
    disk = MemoryDisk()
    disk.write("one", b"1")
    disk.die_after(2)
    with pytest.raises(ProcessDied):
        disk.write("two", b"content")
    left = disk.kill()
    assert left.paths == ["one", "two"]
    assert left.read("two") == b"con"


def test_a_dead_process_does_nothing_more() -> None:
    """What still runs of it cannot touch the disk of the next."""
    disk = MemoryDisk()
    left = disk.kill()
    for call in (lambda: disk.write("one", b""), lambda: disk.sizes(""), lambda: disk.read("one")):
        with pytest.raises(ProcessDied):
            call()
    left.write("one", b"1")
    assert disk.paths == []


async def test_a_dead_process_holds_nothing() -> None:
    """Its lock ends with it."""
    disk = MemoryDisk()
    async with disk.hold(), disk.kill().hold():
        pass


def test_a_full_disk_takes_a_part() -> None:
    """As much as there is room for, and says so; what is deleted makes room."""
    disk = MemoryDisk(capacity_bytes=10)
    disk.write("one", b"1" * 6)
    with pytest.raises(OSError, match="No space left"):
        disk.write("two", b"2" * 6)
    assert disk.sizes("") == {"one": 6, "two": 4}
    disk.unlink("two")
    disk.unlink("one")
    disk.write("three", b"3" * 10)
    with disk.full(), pytest.raises(OSError, match="No space left"):
        disk.write("four", b"4")


@pytest.mark.parametrize("step", Step)
def test_every_step_can_fail(step: Step) -> None:
    """While the block lasts, and not after it."""

    def use(disk: MemoryDisk) -> None:
        write_durably(disk, "", "one", b"1")
        disk.read("one")
        disk.unlink("one")

    disk = MemoryDisk()
    with ExitStack() as faults:
        faults.enter_context(disk.failing(step))
        with pytest.raises(OSError, match="Input/output error"):
            use(disk)
    use(MemoryDisk())
    use(disk.copy())
