"""Standard output that fails: a pipe that was closed, a disk that is full."""

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
def checked_output() -> Iterator[None]:
    """Turn failed writes to standard output into errors of ours, in the block and at its end.

    Raises:
        OutputClosed: the reader closed the pipe.
        OutputError: the output could not be written.
    """
    usual = sys.stdout
    if usual is not sys.__stdout__ or not isinstance(usual, io.TextIOWrapper):
        yield  # there is none, or it was replaced
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
    """Raises errors of its own type, distinct from those of sockets and files.

    On a closed pipe click and rich would otherwise end the process in the midst of other tasks.
    """

    _is_lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        if self._is_lost or not size:  # the rest of a buffer, or click probing the stream
            return size
        try:
            return super().write(data)
        except BrokenPipeError as error:
            self._is_lost = True
            raise OutputClosed("the reader of the output is gone") from error
        except OSError as error:
            self._is_lost = True
            raise OutputError(f"cannot write the output: {error.strerror}") from error
