"""Adoption of another agent's spool."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from klineagent.storage.spool.adoption import adopt_spool
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


async def test_a_spool_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """Most installations never had one."""
    await adopt_spool(tmp_path / "old", Folder(tmp_path / "ours"))
    assert [*await trio.Path(tmp_path).iterdir()] == []
