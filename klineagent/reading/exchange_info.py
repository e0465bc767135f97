"""The exchange's list of symbols, as it sends it, for programs that begin by reading it."""

from __future__ import annotations

import gzip
from collections import defaultdict

import trio
from attrs import define, field, frozen

from klineagent.core.errors import ExchangeError, NotReadable
from klineagent.series.venues import RunningVenue

LASTS_S = 60.0
# A tenth of the CPU of the best level, for a body a quarter larger.
_LEVEL = 1
# The worker thread is for spot's 17 MB; compressing less takes less than a thread's start.
IN_THREAD_FROM_BYTES = 500_000


@frozen
class _Copy:
    at: float
    """When it was asked for, by Trio's clock."""
    compressed: bytes


@define(eq=False)
class ExchangeInfo:
    """Keeps each venue's answer for a minute; who asks meanwhile shares one request."""

    _copies: dict[str, _Copy] = field(factory=dict, init=False)
    _asking: defaultdict[str, trio.Lock] = field(factory=lambda: defaultdict(trio.Lock), init=False)

    async def compressed(self, running: RunningVenue) -> bytes:
        """Return the answer, gzipped, at most a minute old.

        Raises:
            NotReadable: the exchange does not answer.
        """
        name = running.venue.name
        async with self._asking[name]:
            copy = self._copies.get(name)
            if copy is None or trio.current_time() - copy.at >= LASTS_S:
                copy = self._copies[name] = await _ask(running)
            return copy.compressed


async def _ask(running: RunningVenue) -> _Copy:
    at = trio.current_time()
    try:
        body = await running.context.rest.exchange_info_body()
    except ExchangeError as error:
        raise NotReadable(str(error)) from error
    if len(body) < IN_THREAD_FROM_BYTES:
        return _Copy(at, gzip.compress(body, _LEVEL))
    return _Copy(at, await trio.to_thread.run_sync(gzip.compress, body, _LEVEL))
