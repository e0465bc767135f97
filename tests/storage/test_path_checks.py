"""Reasons why a folder cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from klineagent.storage.path_checks import blocked_by, inaccessible_path
from tests.storage.permissions import folder_of_others


def test_the_file_in_the_way_is_told(tmp_path: Path) -> None:
    """It is found from paths far below it as well."""
    file = tmp_path / "file"
    file.touch()
    reason = f"{file} is a file, not a folder"
    assert blocked_by(file) == blocked_by(file / "x") == blocked_by(file / "x" / "y") == reason


def test_a_link_to_nothing_is_in_the_way(tmp_path: Path) -> None:
    """It blocks the folder; a link to a folder does not."""
    link = tmp_path / "link"
    link.symlink_to("folder")
    assert blocked_by(link / "x") == f"{link} is a link to nothing"
    (tmp_path / "folder").mkdir()
    assert blocked_by(link / "x") is None


def test_nothing_is_in_the_way_of_what_can_be_made(tmp_path: Path) -> None:
    """Nor of a folder that is there."""
    assert blocked_by(tmp_path) is None
    assert blocked_by(tmp_path / "x" / "y") is None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a folder, a file and a link in it, whose owner is no root meanwhile."""
    with folder_of_others(0o777) as folder:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "file").touch()
        (folder / "link").symlink_to("a/b")
        yield folder


@pytest.mark.parametrize(
    ("name", "mode"), [("a", 0), ("a/b", 0o500), ("a/b", 0o600), ("a/b/file", 0o200)]
)
def test_the_first_path_that_is_closed_is_told(folder: Path, name: str, mode: int) -> None:
    """Not what is below it, nor a link to it."""
    (folder / name).chmod(mode)
    try:
        assert inaccessible_path(folder) == folder / name
    finally:
        (folder / name).chmod(0o700)


def test_of_a_file_it_is_enough_to_be_readable(folder: Path) -> None:
    """The engine itself writes read-only files."""
    (folder / "a" / "b" / "file").chmod(0o400)
    assert inaccessible_path(folder) is None
