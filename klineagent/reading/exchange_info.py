"""The exchange's list of symbols, as it sends it, for programs that begin by reading it."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Collection

import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Raw, Struct

from klineagent.core.errors import ExchangeError, NotReadable
from klineagent.reading.request import not_listed
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
    is_long: bool


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
        return (await self._copy(running)).compressed

    async def of_symbols(self, running: RunningVenue, symbols: Collection[str]) -> bytes:
        """Return the answer for some symbols only; not compressed.

        Raises:
            BadRead: the exchange does not list one of them.
            NotReadable: the exchange does not answer.
        """
        copy = await self._copy(running)
        if not copy.is_long:
            return only(copy.compressed, symbols)
        return await trio.to_thread.run_sync(only, copy.compressed, symbols)

    async def _copy(self, running: RunningVenue) -> _Copy:
        name = running.venue.name
        async with self._asking[name]:
            copy = self._copies.get(name)
            if copy is None or trio.current_time() - copy.at >= LASTS_S:
                copy = self._copies[name] = await _ask(running)
            return copy


class _Listed(Struct):
    symbol: str


def only(compressed: bytes, symbols: Collection[str]) -> bytes:
    """Return an answer with none but `symbols`, each as it was written. Pure.

    Raises:
        BadRead: one of them is not in it.
    """
    info = msgspec.json.decode(gzip.decompress(compressed), type=dict[str, Raw])
    every = msgspec.json.decode(info["symbols"], type=list[Raw])
    kept = [each for each in every if msgspec.json.decode(each, type=_Listed).symbol in symbols]
    if len(kept) < len(set(symbols)):
        raise not_listed()
    return msgspec.json.encode({**info, "symbols": kept})


async def _ask(running: RunningVenue) -> _Copy:
    at = trio.current_time()
    try:
        body = await running.context.rest.exchange_info_body()
    except ExchangeError as error:
        raise NotReadable(str(error)) from error
    if len(body) < IN_THREAD_FROM_BYTES:
        return _Copy(at, gzip.compress(body, _LEVEL), is_long=False)
    compressed = await trio.to_thread.run_sync(gzip.compress, body, _LEVEL)
    return _Copy(at, compressed, is_long=True)
