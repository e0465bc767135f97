"""The spool on a real disk: processes that are killed, and no room at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from klineagent.core.errors import SpoolFull
from klineagent.storage.spool.disk import Folder
from klineagent.storage.spool.spool import open_spool
from tests.storage.appending import ROWS
from tests.storage.spools import NO_LIMIT, candles, drained, filled

pytestmark = pytest.mark.slow

KILLS = 20
RUN = 10_000
"""Batches of one process are numbered from a multiple of it."""


def _killed(folder: Path, first: int, after: int) -> list[int]:
    """What a process reported that was killed about when it had reported `after` batches."""
    command = [sys.executable, "-m", "tests.storage.appending", str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.kill()
        lines += process.stdout
    return [int(line) for line in lines if line.endswith(b"\n")]


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def test_a_killed_process_has_kept_what_it_said(tmp_path: Path) -> None:
    """Every batch that was reported is there, whole and in order; the next process finds it."""
    random = Random(1)
    reported = []
    for run in range(KILLS):
        reported += _killed(tmp_path, run * RUN, random.randint(1, 40))
    assert len(reported) > KILLS
    async with open_spool(Folder(tmp_path), limit_bytes=NO_LIMIT) as spool:
        found = await drained(spool)
        assert spool.damaged == 0
    # Of each process one batch more may be there: killed between keeping it and saying so.
    numbers = [int(batch.token.removeprefix("candles-")) for batch in found]
    assert found == [candles(number, ROWS) for number in numbers]
    assert numbers == sorted(set(numbers))
    assert set(reported) <= set(numbers)
    assert len(numbers) <= len(reported) + KILLS
    assert _files(tmp_path) == {"boot", "lock"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(path: Path) -> None:
    """Take all room there is, so that none is left for the spool's counter either."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def test_a_disk_without_room_costs_nothing_that_was_kept(small_disk: Path) -> None:
    """The batch that does not fit is refused; what fitted is delivered, and makes room again."""
    async with open_spool(Folder(small_disk), limit_bytes=NO_LIMIT) as spool:
        kept = await filled(spool, rows=500)
    assert kept
    _fill(small_disk / "others")
    async with open_spool(Folder(small_disk), limit_bytes=NO_LIMIT) as spool:
        with pytest.raises(SpoolFull, match=f"spool {small_disk}: No space left on device"):
            await spool.append(candles(2000))
        assert await drained(spool) == kept
        await spool.append(candles(2000))
        assert await drained(spool) == [candles(2000)]
