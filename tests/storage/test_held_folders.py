"""Folders go with their holder."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from klineagent.storage.held_folders import held, sweep


def _folder(parent: Path, name: str, *, age_s: float = 0) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "file").touch()
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def test_a_folder_that_is_held_stays(tmp_path: Path) -> None:
    """However old it is; once it is let go, it goes."""
    folder = _folder(tmp_path, "ours-1", age_s=1000)
    with held(folder), held(folder):
        assert sweep(tmp_path, "ours-", older_than_s=0) == []
    assert sweep(tmp_path, "ours-", older_than_s=0) == ["ours-1"]
    assert not folder.exists()


def test_a_young_folder_stays(tmp_path: Path) -> None:
    """Whoever made it may be about to hold it."""
    _folder(tmp_path, "ours-1", age_s=50)
    _folder(tmp_path, "ours-2", age_s=70)
    assert sweep(tmp_path, "ours-", older_than_s=60) == ["ours-2"]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """Other folders, and files."""
    other = _folder(tmp_path, "theirs-1")
    (tmp_path / "ours-file").touch()
    assert sweep(tmp_path, "ours-", older_than_s=0) == []
    assert other.exists()


def test_nothing_is_swept_where_there_is_nothing(tmp_path: Path) -> None:
    """Not even the folder they would be in."""
    assert sweep(tmp_path / "none", "ours-", older_than_s=0) == []


def test_a_folder_that_is_gone_cannot_be_held(tmp_path: Path) -> None:
    """Its holder learns it at once."""
    with pytest.raises(FileNotFoundError), held(tmp_path / "gone"):
        pass


def test_nobody_can_hold_what_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes meanwhile waits, and then learns that it is gone."""
    folder = _folder(tmp_path, "ours-1", age_s=50)
    remove = shutil.rmtree
    late: list[Future[None]] = []

    def hold() -> None:
        with held(folder):
            pass

    def slowly(path: Path) -> None:
        late.append(others.submit(hold))
        with pytest.raises(TimeoutError):
            late[0].result(0.05)
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", slowly)
    with ThreadPoolExecutor(1) as others:
        assert sweep(tmp_path, "ours-", older_than_s=0) == ["ours-1"]
        with pytest.raises(FileNotFoundError):
            late[0].result(5)
