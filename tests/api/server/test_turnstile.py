"""Requests that arrive together enter one after another."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import trio
from hypercorn.typing import HTTPScope
from trio.testing import MockClock

from klineagent.api.server.middleware import APART_S, PASSES_APART, Turnstile

_REQUEST = cast("HTTPScope", {"type": "http"})


async def _nothing(*_: Any) -> Any:
    raise AssertionError("nothing is received or sent here")


async def _entries(requests: int, pass_s: float = 0) -> list[int]:
    """In which pass of the scheduler each request enters that comes in the first, one by one."""
    clock = cast("MockClock", trio.lowlevel.current_clock())
    passes, entered = 0, []

    async def app(*_: Any) -> None:
        entered.append(passes)
        if len(entered) == requests:
            nursery.cancel_scope.cancel(reason="all are in")

    async def count_passes() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1
            clock.jump(pass_s)

    turnstile = Turnstile(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_passes)
        for _ in range(requests):
            nursery.start_soon(turnstile, _REQUEST, _nothing, _nothing)
    return entered


async def test_requests_enter_some_passes_apart(mock_clock: MockClock) -> None:
    """As many as one takes to its answer, so that a pass is never long for all of them."""
    entered = await _entries(5)
    apart = [later - earlier for earlier, later in pairwise(entered)]
    assert min(apart) >= PASSES_APART


async def test_requests_do_not_wait_for_passes_that_others_make_long(mock_clock: MockClock) -> None:
    """A loop that is busy with other things would let in too few of them."""
    entered = await _entries(5, pass_s=APART_S)
    apart = [later - earlier for earlier, later in pairwise(entered)]
    assert max(apart) < PASSES_APART
