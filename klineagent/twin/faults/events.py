"""Faults of events: each function takes events and yields those that are sent. Pure.

Most faults are about closing events: a lost forming update is followed by another.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from attrs import define, evolve, field

from klineagent.twin.interval import MINUTE_MS
from klineagent.twin.wire import StreamEvent, fragments_of

Events = Iterable[StreamEvent]
Tampering = Callable[[Events, int], Iterator[StreamEvent]]
"""A fault of events: events and the exchange's time in, other events out."""
Peek = Callable[[str, int], StreamEvent | None]
"""The forming event of a stream at a time; None without a candle."""

# A straggler that waited longer is dropped; its stream had no subscribers meanwhile.
_STALE_MS = 10 * MINUTE_MS
# Spot counts pongs as requests; pings between fragments must not exceed a client's limit.
_PING_EVERY_MS = 10_000
_MOST_FRAGMENTS = 4
_NO_KLINES = (
    b"{}",
    b"[]",
    b"null",
    b"42",
    b'"kline"',
    b'{"e":"kline"}',
    b'{"stream":"btcusdt@kline_1m"}',
    b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1,"s":"BTCUSDT","p":"1.0"}}',
    b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1,"s":"BTCUSDT","k":null}}',
    # Nested deeper than any parser goes.
    b"[" * 5_000,
)
_HUGE = (rb'"E":\d+', b'"E":' + b"9" * 40), (rb'"v":"[^"]*"', b'"v":"9e999"')


def losing(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Drop closing events."""
    return (event for event in events if not (event.is_closing and chance.strikes()))


def doubling(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Send closing events twice."""
    for event in events:
        yield event
        if event.is_closing and chance.strikes():
            yield event


def delaying(
    chance: Chance, hold: Callable[[StreamEvent], None], events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Pass closing events to `hold`, which sends them later."""
    for event in events:
        if event.is_closing and chance.strikes():
            hold(event)
        else:
            yield event


def reordering(
    chance: Chance, stragglers: dict[str, StreamEvent], events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Send closing events after the next event of another stream, or as stragglers of their own."""
    overtaken = None
    for event in events:
        if event.is_closing and event.stream not in stragglers and chance.strikes():
            if overtaken is None and chance.dice.random() < 1 / 2:
                overtaken = event
            else:
                stragglers[event.stream] = event
            continue
        yield event
        if overtaken is not None:
            yield overtaken
            overtaken = None
    if overtaken is not None:
        yield overtaken


def following(
    stragglers: dict[str, StreamEvent], events: Events, now_ms: int
) -> Iterator[StreamEvent]:
    """Send stragglers after the next event of their stream."""
    for event in events:
        yield event
        straggler = stragglers.pop(event.stream, None)
        if straggler is not None and now_ms - straggler.event_ms < _STALE_MS:
            yield straggler


def opening_early(
    chance: Chance, peek: Peek, events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Send an event of the next candle before a closing event."""
    for event in events:
        if event.is_closing:
            early = peek(event.stream, event.event_ms)
            if early is not None and chance.strikes():
                yield early
        yield event


def garbling(chance: Chance, in_place: bool, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Send garbage before an event, or in its place; the text remains UTF-8."""
    for event in events:
        is_struck = chance.strikes()
        if is_struck:
            garbage = _garbage(event, chance.dice)
            yield evolve(event, payload=garbage, is_closing=False, is_bare=True)
        if not (is_struck and in_place):
            yield event


def truncating(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Send only the beginning of an event."""
    for event in events:
        if chance.strikes():
            yield evolve(event, payload=_beginning(event, chance.dice), is_bare=True)
        else:
            yield event


@define(eq=False)
class Fragmenting:
    """Sends events in fragments, at times with a ping between them."""

    chance: Chance
    _pinged_ms: int = field(init=False, default=0)

    def __call__(self, events: Events, now_ms: int) -> Iterator[StreamEvent]:
        """See `Tampering`."""
        for event in events:
            if self.chance.strikes():
                frame = partial(_in_fragments, self.chance.dice.random(), self._ping(now_ms))
                yield evolve(event, frame=frame)
            else:
                yield event

    def _ping(self, now_ms: int) -> bytes | None:
        if now_ms - self._pinged_ms < _PING_EVERY_MS:
            return None
        self._pinged_ms = now_ms
        return str(now_ms).encode()


def _in_fragments(place: float, ping: bytes | None, text: bytes) -> bytes:
    """Split `text` into two to four fragments, depending on `place` in [0, 1), even in letters."""
    most = 2 + int(place * (_MOST_FRAGMENTS - 1))
    cuts = {int(len(text) * (number + place) / most) for number in range(1, most)}
    return fragments_of(text, cuts=tuple(sorted(cuts)), ping=ping)


def _garbage(event: StreamEvent, dice: random.Random) -> bytes:
    text = event.text(combined=True)
    match dice.randrange(5):
        case 0:
            return dice.randbytes(dice.randrange(1, 200)).decode("latin-1").encode()
        case 1:
            return _beginning(event, dice)
        case 2:
            return dice.choice(_NO_KLINES)
        case 3:
            pattern, huge = dice.choice(_HUGE)
            return re.sub(pattern, huge, text)
    return b""


def _beginning(event: StreamEvent, dice: random.Random) -> bytes:
    # Cut between letters, as a partial one would not be valid UTF-8.
    text = event.text(combined=True).decode()
    return text[: dice.randrange(1, max(2, len(text)))].encode()


@define(kw_only=True, eq=False)
class Chance:
    """The dice of a fault: it strikes with probability `share`, and counts.

    Each fault has its own, so that faults do not influence each other.
    """

    kind: str
    share: float
    dice: random.Random
    injected: Counter[str]

    def strikes(self) -> bool:
        """Whether the fault happens this time."""
        # A share of 1 must always strike; `random` never reaches 1.
        struck = self.dice.random() < self.share
        if struck:
            self.injected[self.kind] += 1
        return struck
