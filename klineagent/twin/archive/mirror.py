"""A folder with files of the real archive, as a tree of objects."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from attrs import frozen

from klineagent.twin.archive.bucket import Stored


@frozen
class MirrorTree:
    """The `ObjectTree` of all files below a folder, the one that contains `data/`."""

    _home: Path

    def folder(self, prefix: str) -> Iterator[Stored | str]:
        """See `ObjectTree`."""
        folder = self._below(prefix)
        for path in folder.iterdir() if folder and folder.is_dir() else ():
            key = prefix + path.name
            yield f"{key}/" if path.is_dir() else self._stored(key, path)

    def find(self, key: str) -> tuple[Stored, bytes] | None:
        """An object and its content; None if there is none."""
        path = self._below(key)
        if path is None or not path.is_file():
            return None
        return self._stored(key, path), path.read_bytes()

    def _below(self, key: str) -> Path | None:
        """The path of a key; None if it leads out of the folder."""
        path = (self._home / key).resolve()
        return path if path.is_relative_to(self._home.resolve()) else None

    def _stored(self, key: str, path: Path) -> Stored:
        status = path.stat()
        version = f"{key}/{status.st_size}/{status.st_mtime_ns}".encode()
        etag = blake2b(version, digest_size=16).hexdigest()
        return Stored(key, status.st_size, etag, status.st_mtime_ns // 1_000_000)
