"""Running a command under Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from klineagent.core.errors import KlineagentError

_Error = TypeVar("_Error", bound=BaseException)


def run(function: Callable[[], Awaitable[None]]) -> None:
    """Run `function`; an expected error in the group it comes in is taken out of it.

    Raises:
        KeyboardInterrupt: Ctrl-C, whatever else it broke.
        KlineagentError: `function` raised it, and nothing that is not expected.
    """
    try:
        trio.run(function)
    except BaseExceptionGroup as group:
        if interrupts := group.subgroup(KeyboardInterrupt):
            raise first_of(interrupts) from group
        expected, others = group.split(KlineagentError)
        if expected is None or others is not None:
            raise
        raise first_of(expected) from group


def first_of(group: BaseExceptionGroup[_Error]) -> _Error:
    """The first error in `group`, however deep it is."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
