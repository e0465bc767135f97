"""Running a command under Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from klineagent.core.errors import KlineagentError, first_of

_Result = TypeVar("_Result")


def run(function: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run `function` under Trio, and return its result.

    A group of errors that are all expected is raised as the first of them.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, whatever else that broke.
        KlineagentError: `function` raised it, and nothing unexpected.
    """
    try:
        return trio.run(function)
    except BaseExceptionGroup as group:
        if interrupts := group.subgroup(KeyboardInterrupt):
            raise first_of(interrupts) from group
        expected, others = group.split(KlineagentError)
        if expected is None or others is not None:
            raise
        raise first_of(expected) from group
