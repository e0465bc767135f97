"""Snapshots of an embedded database."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from klineagent.core.errors import StoreOverloaded
from klineagent.storage import snapshots as module
from klineagent.storage.held_folders import held
from klineagent.storage.opening import open_store
from klineagent.storage.snapshots import Frozen, Snapshots, snapshot_folder
from klineagent.storage.store import Batch
from tests.klines import a_kline

pytest.importorskip("chdb")


@pytest.fixture
async def snapshots(tmp_path: Path) -> AsyncIterator[Snapshots]:
    """Those of a store with a candle."""
    async with open_store(f"chdb://{tmp_path}/klines") as store:
        await store.insert(Batch("1", (a_kline(),)))
        assert store.snapshots is not None
        yield store.snapshots


async def test_a_snapshot_has_the_files_of_the_tables(snapshots: Snapshots) -> None:
    """It costs no space: they are the same files."""
    frozen = await snapshots.take()
    assert {table.name for table in frozen.tables} >= {"klines", "agents", "klines_final"}
    assert frozen.tables[-1].name == "klines_final", "views are made after their tables"
    [klines] = [table for table in frozen.tables if table.name == "klines"]
    assert klines.parts is not None
    files = [file for file in (frozen.folder / klines.parts).rglob("*") if file.is_file()]
    assert files
    assert all(file.stat().st_nlink > 1 for file in files)


async def test_a_snapshot_is_removed_once(snapshots: Snapshots) -> None:
    """With its files; then there is none."""
    frozen = await snapshots.take()
    assert await snapshots.remove(frozen.name)
    assert not frozen.folder.exists()
    assert not await snapshots.remove(frozen.name)


@pytest.mark.parametrize("name", ["", ".", "..", "../store", "klineagent_", "increment.txt"])
async def test_only_snapshots_can_be_removed(snapshots: Snapshots, name: str) -> None:
    """A name leads nowhere else."""
    frozen = await snapshots.take()
    assert not await snapshots.remove(name)
    assert frozen.folder.exists()


async def test_so_many_are_kept_at_most(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that forgets its own is told."""
    monkeypatch.setattr(module, "MOST_SNAPSHOTS", 2)
    first, _ = await snapshots.take(), await snapshots.take()
    with pytest.raises(StoreOverloaded, match="2 snapshots are kept already"):
        await snapshots.take()
    await snapshots.remove(first.name)
    await snapshots.take()


async def test_a_freeze_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Not even the tables that were frozen before."""

    async def freeze(name: str) -> Frozen:
        snapshot_folder(tmp_path, name).mkdir(parents=True)
        raise StoreOverloaded("the disk is full")

    with pytest.raises(StoreOverloaded, match="the disk is full"):
        await Snapshots(tmp_path, freeze).take()
    assert _names(tmp_path / "shadow") == []


async def test_those_taken_at_once_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while they are being frozen."""
    monkeypatch.setattr(module, "MOST_SNAPSHOTS", 2)
    refused: list[StoreOverloaded] = []

    async def freeze(name: str) -> Frozen:
        await trio.lowlevel.checkpoint()
        snapshot_folder(tmp_path, name).mkdir(parents=True)
        return Frozen(name, snapshot_folder(tmp_path, name), "default", ())

    async def take() -> None:
        try:
            await ours.take()
        except StoreOverloaded as error:
            refused.append(error)

    ours = Snapshots(tmp_path, freeze)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(take)
    assert (len(_names(tmp_path / "shadow")), len(refused)) == (2, 3)


async def test_who_leaves_meanwhile_leaves_no_snapshot(tmp_path: Path) -> None:
    """The engine ends what it does in its thread; what it froze would be nobody's."""
    leaving = trio.CancelScope()

    async def freeze(name: str) -> Frozen:
        with trio.CancelScope(shield=True):
            snapshot_folder(tmp_path, name).mkdir(parents=True)
            leaving.cancel()
            await trio.lowlevel.checkpoint()
        return Frozen(name, snapshot_folder(tmp_path, name), "default", ())

    with leaving:
        await Snapshots(tmp_path, freeze).take()
    assert leaving.cancelled_caught
    assert _names(tmp_path / "shadow") == []


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_snapshots_that_were_left_are_removed_at_the_start(snapshots: Snapshots) -> None:
    """A new agent removes those of the last, but for those in use; its own stay for an hour."""
    left, used = await snapshots.take(), await snapshots.take()
    with held(used.folder):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(snapshots.keep_swept)
            with trio.fail_after(30):
                while left.folder.exists():  # noqa: ASYNC110 - a folder has no event
                    await trio.sleep(0.01)
            own = await snapshots.take()
            nursery.cancel_scope.cancel()
        assert used.folder.exists()
        assert await snapshots.sweep(older_than_s=module.KEPT_S) == []
        _age(own.folder, module.KEPT_S + 1)
        assert await snapshots.sweep(older_than_s=module.KEPT_S) == [own.name]


def _age(folder: Path, seconds: float) -> None:
    os.utime(folder, (time.time() - seconds,) * 2)
