"""Files of whole documents: for clients that read them by ranges, over several requests."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import trio
from attrs import define, field

# A client that reads a file by ranges sends its next request within a moment.
UNUSED_S = 5.0
# A client that asks for the same document all the time gets a new one every minute.
OLDEST_S = 60.0
# The oldest makes room; requests that read it go on.
MOST_FILES = 4


@define(eq=False)
class DocumentFile:
    """A file without a name; the disk has it as long as anything refers to this."""

    _descriptor: int
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
        """Write at the end."""
        await trio.to_thread.run_sync(_write, self._descriptor, data)
        self.size += len(data)


def _nameless() -> int:
    descriptor, name = tempfile.mkstemp(prefix="klineagent-")
    Path(name).unlink()
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


async def written(document: AsyncIterable[bytes]) -> DocumentFile:
    """Write a whole document to a file."""
    file = DocumentFile(await trio.to_thread.run_sync(_nameless))
    async for piece in document:
        await file.append(piece)
    return file


@define(eq=False)
class KeptFiles:
    """Keeps files for a moment between requests for parts of them."""

    _files: dict[str, DocumentFile] = field(factory=dict, init=False)
    _turn: trio.Lock = field(factory=trio.Lock, init=False)

    async def run(self) -> NoReturn:
        """Delete files that nobody has read for a moment."""
        while True:
            await trio.sleep(UNUSED_S)
            self._files = {name: file for name, file in self._files.items() if file.is_fresh}

    async def get(self, name: str, make: Callable[[], Awaitable[DocumentFile]]) -> DocumentFile:
        """Return the file kept under `name`, or `make` it; who asks meanwhile shares it."""
        if (file := self._fresh(name)) is not None:
            return file
        async with self._turn:
            if (file := self._fresh(name)) is None:
                file = await make()
                self._files.pop(name, None)
                if len(self._files) >= MOST_FILES:
                    del self._files[next(iter(self._files))]
                self._files[name] = file
            return file

    def _fresh(self, name: str) -> DocumentFile | None:
        file = self._files.get(name)
        return file if file is not None and file.is_fresh else None
