"""Files of whole documents: for clients that read them by ranges, over several requests."""

from __future__ import annotations

import os
import secrets
import tempfile
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import trio
from attrs import define, field

from klineagent.core.errors import Overloaded

# A client that reads a file by ranges sends its next request within a moment.
UNUSED_S = 5.0
# A client that asks for the same document all the time gets a new one every minute.
OLDEST_S = 60.0
# The oldest makes room; requests that read it go on.
MOST_FILES = 16
# Of all files together, those that are being written or sent included: the folder is often small,
# and other programs use it.
MOST_BYTES = 2 * 1024**3
# Sending four documents may take minutes; most take seconds.
RETRY_AFTER_S = 10

_Done = TypeVar("_Done")


@define(eq=False)
class DocumentFile:
    """A file without a name; the disk has it as long as anything refers to this."""

    _descriptor: int
    etag: str = field(factory=lambda: f'"{secrets.token_hex(8)}"', init=False)
    """The mark by which a client tells it from other files of the same document."""
    size: int = field(default=0, init=False)
    _made_at: float = field(factory=trio.current_time, init=False)
    _used_at: float = field(factory=trio.current_time, init=False)

    def __attrs_post_init__(self) -> None:
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def is_fresh(self) -> bool:
        """Whether another request may read it."""
        now = trio.current_time()
        return now - self._used_at < UNUSED_S and now - self._made_at < OLDEST_S

    async def read(self, start: int, count: int) -> bytes:
        """Return so many bytes from `start` on."""
        self._used_at = trio.current_time()
        return await trio.to_thread.run_sync(os.pread, self._descriptor, count, start)

    async def append(self, data: bytes) -> None:
        """Write at the end.

        Raises:
            Overloaded: the disk has no room.
        """
        self.size += len(data)
        await _on_disk(partial(_write, self._descriptor, data))

    def finish(self) -> None:
        """Begin to age: writing may have taken longer than a file is kept."""
        self._made_at = self._used_at = trio.current_time()


def _nameless() -> int:
    descriptor, name = tempfile.mkstemp(prefix="klineagent-")
    Path(name).unlink()
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


async def _on_disk(act: Callable[[], _Done]) -> _Done:
    try:
        return await trio.to_thread.run_sync(act)
    except OSError as error:
        text = f"no file can be written in {tempfile.gettempdir()} ($TMPDIR): {error}"
        raise Overloaded(text, retry_after_s=RETRY_AFTER_S) from error


def _turns() -> weakref.WeakValueDictionary[str, trio.Lock]:
    return weakref.WeakValueDictionary()


@define(eq=False)
class KeptFiles:
    """Writes files, and keeps some for a moment between requests for parts of them."""

    _files: dict[str, DocumentFile] = field(factory=dict, init=False)
    """Those that are kept, oldest first."""
    _all: weakref.WeakSet[DocumentFile] = field(factory=weakref.WeakSet, init=False)
    """Whatever the disk has, as requests read files that are not kept any more."""
    _turns: weakref.WeakValueDictionary[str, trio.Lock] = field(factory=_turns, init=False)
    """Who makes a file holds its name's, as long as others wait for it."""

    async def run(self) -> NoReturn:
        """Delete files that were not read for a moment."""
        while True:
            await trio.sleep(UNUSED_S)
            self._files = {name: file for name, file in self._files.items() if file.is_fresh}

    async def written(self, document: AsyncIterable[bytes]) -> DocumentFile:
        """Write a whole document to a file.

        Raises:
            Overloaded: there is no room for it.
        """
        file = DocumentFile(await _on_disk(_nameless))
        self._all.add(file)
        async for piece in document:
            if sum(each.size for each in self._all) + len(piece) > MOST_BYTES:
                text = f"files of documents have {MOST_BYTES >> 20} MiB; ask for less, or later"
                raise Overloaded(text, retry_after_s=RETRY_AFTER_S)
            await file.append(piece)
        file.finish()
        return file

    async def get(self, name: str, make: Callable[[], Awaitable[DocumentFile]]) -> DocumentFile:
        """Return the file kept under `name`, or `make` it; who asks meanwhile shares it."""
        if (file := self.kept(name)) is not None:
            return file
        async with self._turns.setdefault(name, trio.Lock()):
            if (file := self.kept(name)) is None:
                file = await make()
                self._files.pop(name, None)
                if len(self._files) >= MOST_FILES:
                    del self._files[next(iter(self._files))]
                self._files[name] = file
            return file

    def kept(self, name: str) -> DocumentFile | None:
        """Return the file kept under `name`, if another request may read it."""
        file = self._files.get(name)
        return file if file is not None and file.is_fresh else None
