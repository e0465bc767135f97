"""Files of documents: how long they are kept, by whom they are shared, and how much they take."""

from __future__ import annotations

import errno
import os
from functools import partial

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from klineagent.core.errors import Overloaded
from klineagent.reading import kept_files
from klineagent.reading.kept_files import OLDEST_S, UNUSED_S, DocumentFile, KeptFiles
from tests.reading.threads import at_once


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual clock would not wait for them."""
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)


@define
class ADocument:
    """A document of two pieces that takes so long."""

    seconds: float = 0
    left: int = 2

    def __aiter__(self) -> ADocument:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        await trio.sleep(self.seconds / 2)
        return b"candles\n"


async def test_a_file_ages_from_its_end_on_however_long_it_was_written(
    autojump_clock: MockClock,
) -> None:
    """Who waited for it and asks for its parts gets them; unread for a moment it is gone."""
    files = KeptFiles()
    make = partial(files.written, ADocument(seconds=2 * OLDEST_S))
    file = await files.get("a", make)
    assert trio.current_time() == 2 * OLDEST_S
    assert (files.kept("a"), file.size) == (file, 16)
    await trio.sleep(UNUSED_S - 0.1)
    assert await file.read(2, 3) == b"ndl"
    await trio.sleep(UNUSED_S - 0.1)
    assert files.kept("a") is file
    await trio.sleep(0.1)
    assert files.kept("a") is None


async def test_nobody_begins_with_a_file_that_is_old(autojump_clock: MockClock) -> None:
    """Though it is read all the time."""
    files = KeptFiles()
    file = await files.get("a", partial(files.written, ADocument()))
    for _ in range(round(OLDEST_S) - 1):
        await trio.sleep(1)
        await file.read(0, 1)
    assert files.kept("a") is file
    await trio.sleep(1)
    newer = await files.get("a", partial(files.written, ADocument()))
    assert newer.etag != file.etag
    assert await file.read(0, 1) == b"c"


async def test_who_asks_meanwhile_shares_a_file_and_others_do_not_wait(
    autojump_clock: MockClock,
) -> None:
    """A short document is there while a long one is written."""
    files = KeptFiles()
    got: list[tuple[str, float, DocumentFile]] = []

    async def ask(name: str, seconds: float) -> None:
        file = await files.get(name, partial(files.written, ADocument(seconds)))
        got.append((name, trio.current_time(), file))

    async with trio.open_nursery() as nursery:
        for name, seconds in (("long", 30), ("long", 30), ("short", 1)):
            nursery.start_soon(ask, name, seconds)
            await trio.testing.wait_all_tasks_blocked()
    assert [each[:2] for each in got] == [("short", 1), ("long", 30), ("long", 30)]
    assert got[1][2] is got[2][2]


async def test_files_take_so_many_bytes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one that nobody refers to any more is gone."""
    monkeypatch.setattr(kept_files, "MOST_BYTES", 40)
    files = KeptFiles()
    sent = [await files.written(ADocument()) for _ in range(2)]
    with pytest.raises(Overloaded, match="files of documents have"):
        await files.written(ADocument())
    sent.pop()
    await files.written(ADocument())


async def test_a_full_disk_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder, and when to try again."""

    def write(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(Overloaded, match=r"\$TMPDIR.*No space left") as refused:
            await KeptFiles().written(ADocument())
    assert refused.value.retry_after_s
