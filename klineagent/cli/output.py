"""Standard output that takes no more: a pipe that was closed, a disk that is full."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from klineagent.core.errors import OutputClosed, OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def told_output() -> Iterator[None]:
    """In this block, and at its end, what standard output does not take is an error of ours.

    Raises:
        OutputClosed: who was reading has read enough.
        OutputError: it could not be written.
    """
    usual = sys.stdout
    if usual is not sys.__stdout__ or not isinstance(usual, io.TextIOWrapper):
        yield  # there is none, or somebody has put something else in its place
        return
    raw = _Output(usual.fileno(), "wb", closefd=False)
    is_unbuffered = isinstance(usual.buffer, io.RawIOBase)  # PYTHONUNBUFFERED
    sys.stdout = io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=usual.encoding,
        errors=usual.errors,
        line_buffering=usual.line_buffering,
        write_through=usual.write_through,
    )
    try:
        yield
    finally:
        ours, sys.stdout = sys.stdout, usual
        ours.flush()


class _Output(io.FileIO):
    """Its errors are told from those of sockets and files, and libraries do not act on them.

    click and rich would end the process because of a closed pipe, and that amid other tasks.
    """

    _is_lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        if self._is_lost or not size:  # what buffers still hold, or how click looks at a stream
            return size
        try:
            return super().write(data)
        except BrokenPipeError as error:
            self._is_lost = True
            raise OutputClosed("nobody reads the output any more") from error
        except OSError as error:
            self._is_lost = True
            raise OutputError(f"cannot write the output: {error.strerror}") from error
