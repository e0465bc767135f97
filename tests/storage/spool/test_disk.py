"""The contract that a real folder and the one in memory share."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from klineagent.core.errors import SpoolBroken, SpoolError, SpoolFull
from klineagent.storage.memory.disk import MemoryDisk
from klineagent.storage.spool.disk import Disk, Files, Folder, translated_errors, write_durably


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """One of each kind, empty."""
    return Folder(tmp_path / "deep" / "spool") if request.param == "folder" else MemoryDisk()


async def test_files_are_kept(disk: Disk) -> None:
    """What is written is listed and read, under its newest name."""

    def work(files: Files) -> None:
        files.make_folder("a")
        files.make_folder("b")
        files.make_folder("b")
        files.write("a/one", b"1" * 100_000)
        files.write("two", b"")
        files.sync_folder("a")
        assert (files.sizes("a"), files.sizes("b"), files.sizes("")["two"]) == (
            {"one": 100_000},
            {},
            0,
        )
        files.rename("a/one", "b/uno")
        assert (files.sizes("a"), files.sizes("b")) == ({}, {"uno": 100_000})
        assert files.read("b/uno") == b"1" * 100_000

    async with disk.hold():
        await disk.run(work)


async def test_a_file_is_never_written_twice(disk: Disk) -> None:
    """A name that is taken is an error; only `rename` replaces."""

    def work(files: Files) -> None:
        files.write("one", b"1")
        with pytest.raises(FileExistsError):
            files.write("one", b"2")
        files.write("two", b"2")
        files.rename("two", "one")
        assert files.read("one") == b"2"

    async with disk.hold():
        await disk.run(work)


async def test_what_is_gone(disk: Disk) -> None:
    """It can be deleted again, but not read or renamed."""

    def work(files: Files) -> None:
        files.write("one", b"1")
        files.unlink("one")
        files.unlink("one")
        with pytest.raises(FileNotFoundError):
            files.read("one")
        with pytest.raises(FileNotFoundError):
            files.rename("one", "two")

    async with disk.hold():
        await disk.run(work)


async def test_a_durable_file_leaves_nothing_beside_it(disk: Disk) -> None:
    """The file has its final name only, and can be replaced."""

    def work(files: Files) -> None:
        files.make_folder("a")
        for content in (b"1", b"2"):
            write_durably(files, "a", "one", content)
            assert files.sizes("a") == {"one": 1}
            assert files.read("a/one") == content

    async with disk.hold():
        await disk.run(work)


async def test_one_agent_at_a_time(disk: Disk) -> None:
    """A second one fails at once, and succeeds after the first has ended."""
    async with disk.hold():
        other = Folder(disk.path) if isinstance(disk, Folder) else disk
        with pytest.raises(SpoolError, match="in use by another agent"):
            async with other.hold():
                raise AssertionError("both have it")
    async with disk.hold():
        pass


async def test_one_call_at_a_time(disk: Disk) -> None:
    """Calls do not overlap, however many tasks make them."""
    inside = 0

    def work(files: Files) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        files.sizes("")
        inside -= 1

    async with disk.hold(), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(disk.run, work)


async def test_a_cancelled_call_is_not_begun(disk: Disk) -> None:
    """Cancelled, a call does nothing or everything."""

    def work(files: Files) -> None:
        files.write("one", b"1")

    async with disk.hold():
        with trio.CancelScope() as scope:
            scope.cancel()
            await disk.run(work)
        assert "one" not in await disk.run(lambda files: files.sizes(""))


async def test_errors_of_the_disk_are_ours(disk: Disk) -> None:
    """The error is one sentence that names the spool."""

    def work(files: Files) -> None:
        files.read("nothing")

    async with disk.hold():
        with pytest.raises(SpoolBroken, match=f"spool {disk.label}: No such file or directory"):
            await disk.run(work)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, SpoolFull),
        (errno.EDQUOT, SpoolFull),
        (errno.EIO, SpoolBroken),
        (errno.EROFS, SpoolBroken),
    ],
)
def test_no_room_is_told_from_a_broken_disk(number: int, kind: type[SpoolError]) -> None:
    """An exhausted quota counts as a full disk."""
    with pytest.raises(kind, match=os.strerror(number)), translated_errors("here"):
        raise OSError(number, os.strerror(number))


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error is one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolBroken, match=r"/file is a file, not a folder$"):
        async with Folder(tmp_path / "file").hold():
            raise AssertionError("it is a file")
