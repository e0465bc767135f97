"""Running a command under Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from klineagent.errors import KlineagentError


def run(function: Callable[[], Awaitable[None]]) -> None:
    """Run `function`; an expected error in the group it comes in is taken out of it."""
    try:
        trio.run(function)
    except* KlineagentError as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[KlineagentError]) -> KlineagentError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
