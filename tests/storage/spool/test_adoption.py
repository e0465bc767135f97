"""Adoption of another agent's spool."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from klineagent.core.errors import SpoolError
from klineagent.storage.spool.adoption import adopt_spool, adopt_spools
from klineagent.storage.spool.disk import Folder
from klineagent.storage.spool.spool import open_spool
from tests.simulations.looking import logged
from tests.storage.spools import NO_LIMIT, candles, drained, updates


async def test_every_batch_is_moved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those that wait, and dead letters; a second time there is nothing to move."""
    ours, old = Folder(tmp_path / "ours"), Folder(tmp_path / "old")
    caplog.set_level("INFO")
    async with open_spool(ours, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(1))
    async with open_spool(old, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(2))
        await spool.append(updates(3))
        await spool.set_aside(candles(4), "the database is sure that it is none")
    for _ in range(2):
        await adopt_spool(old.path, ours)
    async with open_spool(ours, limit_bytes=NO_LIMIT) as spool:
        assert spool.dead_letters == 1
        assert sorted(await drained(spool), key=repr) == sorted(
            [candles(1), candles(2), updates(3)], key=repr
        )
    async with open_spool(old, limit_bytes=NO_LIMIT) as spool:
        assert (spool.is_empty, spool.dead_letters) == (True, 0)
    assert [line["files"] for line in logged(caplog, "spool_adopted")] == [3]


@pytest.mark.logs("spool_not_adopted")
async def test_the_spool_of_an_agent_that_runs_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has its own use for it."""
    ours, old = Folder(tmp_path / "ours"), Folder(tmp_path / "old")
    async with open_spool(old, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(2))
        await adopt_spool(old.path, ours)
        assert await drained(spool) == [candles(2)]
    [line] = logged(caplog, "spool_not_adopted")
    assert "in use by another agent" in str(line["reason"])


async def test_batches_are_moved_under_our_lock_and_listed(tmp_path: Path) -> None:
    """An agent that is started twice moves none into the spool that the first has listed."""
    ours, old = Folder(tmp_path / "ours"), Folder(tmp_path / "old")
    adopt = partial(adopt_spools, [old.path], ours)
    async with open_spool(old, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(2))
    async with open_spool(ours, limit_bytes=NO_LIMIT, adopt=adopt) as spool:
        assert await drained(spool) == [candles(2)]
        async with open_spool(old, limit_bytes=NO_LIMIT) as another:
            await another.append(candles(3))
        with pytest.raises(SpoolError, match="in use by another agent"):
            async with open_spool(Folder(ours.path), limit_bytes=NO_LIMIT, adopt=adopt):
                pass
        async with open_spool(old, limit_bytes=NO_LIMIT) as another:
            assert await drained(another) == [candles(3)]


@pytest.mark.logs("spool_not_adopted")
async def test_the_folder_that_failed_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be ours; the batches stay where they are."""
    ours, old = Folder(tmp_path / "ours"), Folder(tmp_path / "old")
    async with open_spool(old, limit_bytes=NO_LIMIT) as spool:
        await spool.append(candles(2))
    await trio.Path(ours.path).write_text("no folder")
    await adopt_spool(old.path, ours)
    [line] = logged(caplog, "spool_not_adopted")
    assert str(line["reason"]).startswith(f"spool {ours.label}: ")
    async with open_spool(old, limit_bytes=NO_LIMIT) as spool:
        assert await drained(spool) == [candles(2)]


async def test_a_spool_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """Most installations never had one."""
    await adopt_spool(tmp_path / "old", Folder(tmp_path / "ours"))
    assert [*await trio.Path(tmp_path).iterdir()] == []
