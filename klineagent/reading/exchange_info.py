"""The exchange's list of symbols, as it sends it, for programs that begin by reading it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Raw, Struct

from klineagent.core.errors import UNREADABLE, ExchangeError, NotReadable
from klineagent.core.sharing import Sharing
from klineagent.exchange.rest_answers import parts_of
from klineagent.reading.request import not_listed
from klineagent.series.venues import RunningVenue

LASTS_S = 60.0
# Requests are held while the exchange is away, for longer than programs wait.
ANSWERED_WITHIN_S = 5.0
# A tenth of the CPU of the best level, for a body a quarter larger.
_LEVEL = 1
# The worker thread is for spot's 17 MB; compressing less takes less than a thread's start.
IN_THREAD_FROM_BYTES = 500_000

T = TypeVar("T")


@frozen
class Listed:
    """An answer, taken apart: its symbols by name, each as it was written, in their order."""

    others: Mapping[str, Raw]
    symbols: Mapping[str, Raw]

    def only(self, symbols: Collection[str]) -> bytes:
        """Return the answer with none but `symbols`.

        Raises:
            BadRead: one of them is not in it.
        """
        if not self.symbols.keys() >= {*symbols}:
            raise not_listed()
        kept = [each for name, each in self.symbols.items() if name in symbols]
        return msgspec.json.encode({**self.others, "symbols": kept})


@define(eq=False)
class _Copy:
    at: float
    """When it was asked for, or in vain again, by Trio's clock."""
    compressed: bytes
    is_long: bool
    # Each is made for the first who asks for it, and kept: made anew they would cost CPU each time,
    # and 17 MB for each client.
    plain: bytes | None = None
    listed: Listed | None = None

    async def unpacked(self, function: Callable[[bytes], T]) -> T:
        """Call `function` with the compressed answer, in a thread if that takes long."""
        if not self.is_long:
            return function(self.compressed)
        return await trio.to_thread.run_sync(function, self.compressed)


@define(eq=False)
class ExchangeInfo:
    """Keeps each venue's answer for a minute; who asks meanwhile shares one request."""

    _copies: dict[str, _Copy] = field(factory=dict, init=False)
    _asking: Sharing[str, _Copy] = field(factory=Sharing, init=False)
    # One thread at a time, of all venues.
    _unpacking: trio.Lock = field(factory=trio.Lock, init=False)

    async def compressed(self, running: RunningVenue) -> bytes:
        """Return the answer, gzipped, at most a minute old.

        Raises:
            NotReadable: the exchange does not answer.
        """
        return (await self._copy(running)).compressed

    async def plain(self, running: RunningVenue) -> bytes:
        """Return the same, not compressed.

        Raises:
            NotReadable: the exchange does not answer.
        """
        copy = await self._copy(running)
        async with self._unpacking:
            if copy.plain is None:
                copy.plain = await copy.unpacked(gzip.decompress)
        return copy.plain

    async def of_symbols(self, running: RunningVenue, symbols: Collection[str]) -> bytes:
        """Return the answer for some symbols only; not compressed.

        Raises:
            BadRead: the exchange does not list one of them.
            NotReadable: the exchange does not answer, or not as it should.
        """
        copy = await self._copy(running)
        async with self._unpacking:
            if copy.listed is None:
                copy.listed = await copy.unpacked(take_apart)
        return copy.listed.only(symbols)

    async def _copy(self, running: RunningVenue) -> _Copy:
        name = running.venue.name
        copy = self._copies.get(name)
        if copy is not None and trio.current_time() - copy.at < LASTS_S:
            return copy

        async def ask() -> _Copy:
            try:
                self._copies[name] = await _ask(running)
            except NotReadable:
                if copy is None:
                    raise
                # Bots that begin in an outage need it, and it changes a few times a day.
                copy.at = trio.current_time()
                return copy
            return self._copies[name]

        return await self._asking.answer(name, ask)


class _Element(Struct):
    symbol: str


_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_name = msgspec.json.Decoder(_Element).decode


def take_apart(compressed: bytes) -> Listed:
    """Take an answer apart. Pure.

    Raises:
        NotReadable: it is no list of symbols.
    """
    body = gzip.decompress(compressed)
    try:
        try:
            # In parts, so that a thread that does this holds up the others for no longer than one.
            return _joined(parts_of(body))
        except UNREADABLE:  # perhaps it was cut within an element
            return _joined([body])
    except UNREADABLE as error:
        raise NotReadable(f"exchangeInfo cannot be read: {error}") from error


def _joined(parts: Iterable[bytes]) -> Listed:
    others: dict[str, Raw] = {}
    symbols: dict[str, Raw] = {}
    for part in parts:
        info = _decode(part)
        for each in _decode_list(info.get("symbols", b"")):
            symbols[_decode_name(each).symbol] = each
        others |= info
    return Listed(others, symbols)


async def _ask(running: RunningVenue) -> _Copy:
    at, rest = trio.current_time(), running.context.rest
    try:
        with trio.fail_after(ANSWERED_WITHIN_S):
            body = await rest.exchange_info_body()
    except ExchangeError as error:
        raise NotReadable(str(error)) from error
    except trio.TooSlowError as error:
        raise NotReadable(rest.last_error or "the exchange does not answer") from error
    if len(body) < IN_THREAD_FROM_BYTES:
        return _Copy(at, gzip.compress(body, _LEVEL), is_long=False)
    compressed = await trio.to_thread.run_sync(gzip.compress, body, _LEVEL)
    return _Copy(at, compressed, is_long=True)
