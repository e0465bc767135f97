"""Repeats what a store that is away could not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from klineagent.core.errors import StoreUnavailable
from klineagent.core.retry import Backoff
from klineagent.history.events import Report, Waiting

T = TypeVar("T")
_LONGEST_RETRY_S = 30.0


async def once_there(step: Callable[[], Awaitable[T]], report: Report) -> T:
    """Do `step`, again and again while the store is away; `report` gets the reason why it waits.

    Raises:
        StoreError: the store refuses, or an operator must act.
    """
    backoff = Backoff(first_s=1, most_s=_LONGEST_RETRY_S)
    is_away = False
    while True:
        try:
            done = await step()
        except StoreUnavailable as error:
            is_away = True
            report(Waiting(str(error)))
            await trio.sleep(backoff.after())
        else:
            if is_away:
                report(Waiting(""))
            return done
