"""Ctrl-C during imports, before a command can handle it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C."""


@contextmanager
def deadly_interrupts() -> Iterator[None]:
    """Make Ctrl-C in this block, which imports, end the process at once and silently.

    As an exception it would arise within a module's code, which may take it for a missing module,
    or print and drop it. Outside the main thread, where it never arises, nothing is changed.
    """
    usual = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if usual is not signal.default_int_handler or not is_main:
        yield  # a handler that was changed before, perhaps to ignore Ctrl-C, is kept
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
