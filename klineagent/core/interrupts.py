"""Ctrl-C before there is a command that could make something of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""The exit code of what Ctrl-C has ended."""


@contextmanager
def deadly_interrupts() -> Iterator[None]:
    """Ctrl-C in this block, which imports, ends the process on the spot and without a word.

    As an exception it would arise in the midst of a module, where it may be taken for one that is
    not installed, or be printed and lost. Outside the main thread, where it never arises, nothing
    is changed.
    """
    usual = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if usual is not signal.default_int_handler or not is_main:
        yield  # whoever has changed it, be it to ignore it, will know why
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
