"""What can go wrong with events on their way out: each takes events and yields what is sent. Pure.

Closing events are what faults are about: a growing update that is lost is followed by another.
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
"""Events and the exchange's time in, other events out."""
Peek = Callable[[str, int], StreamEvent | None]
"""The growing event of a stream at a time; None where there is no candle."""

# A straggler that waited longer than this is forgotten; its stream went on without listeners.
_STALE_MS = 10 * MINUTE_MS
# Spot counts pongs as requests; pings amid fragments must not get a client thrown out.
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
    # Deeper than any reader goes.
    b"[" * 5_000,
)
_HUGE = (rb'"E":\d+', b'"E":' + b"9" * 40), (rb'"v":"[^"]*"', b'"v":"9e999"')


def losing(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Closing events are never sent."""
    return (event for event in events if not (event.is_closing and chance.strikes()))


def doubling(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Closing events are sent twice."""
    for event in events:
        yield event
        if event.is_closing and chance.strikes():
            yield event


def delaying(
    chance: Chance, hold: Callable[[StreamEvent], None], events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Closing events are held back by `hold`, whose matter it is to send them later."""
    for event in events:
        if event.is_closing and chance.strikes():
            hold(event)
        else:
            yield event


def reordering(
    chance: Chance, stragglers: dict[str, StreamEvent], events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Closing events come after the next one of another stream, or as stragglers of their own."""
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
    """Stragglers come after the next event of their stream."""
    for event in events:
        yield event
        straggler = stragglers.pop(event.stream, None)
        if straggler is not None and now_ms - straggler.event_ms < _STALE_MS:
            yield straggler


def opening_early(
    chance: Chance, peek: Peek, events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Before the closing event of a candle there is one of the next."""
    for event in events:
        if event.is_closing:
            early = peek(event.stream, event.event_ms)
            if early is not None and chance.strikes():
                yield early
        yield event


def garbling(chance: Chance, in_place: bool, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Before an event, or in its place, comes one that means nothing. Its text is UTF-8 still."""
    for event in events:
        is_struck = chance.strikes()
        if is_struck:
            garbage = _garbage(event, chance.dice)
            yield evolve(event, payload=garbage, is_closing=False, is_bare=True)
        if not (is_struck and in_place):
            yield event


def truncating(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """In place of an event comes its beginning."""
    for event in events:
        if chance.strikes():
            yield evolve(event, payload=_beginning(event, chance.dice), is_bare=True)
        else:
            yield event


@define(eq=False)
class Fragmenting:
    """Events come in fragments, and now and then a ping amid them."""

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
    """`text` in two to four fragments, cut where `place` in [0, 1) says, also within letters."""
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
    # Cut between letters: half a Chinese one would not be text.
    text = event.text(combined=True).decode()
    return text[: dice.randrange(1, max(2, len(text)))].encode()


@define(kw_only=True, eq=False)
class Chance:
    """Strikes a share of what it is asked about, and counts each time.

    Its dice are its own, so that one fault does not change where another strikes.
    """

    kind: str
    share: float
    dice: random.Random
    injected: Counter[str]

    def strikes(self) -> bool:
        """Whether the fault happens this time."""
        # A share of 1 must strike always; `random` never reaches 1.
        struck = self.dice.random() < self.share
        if struck:
            self.injected[self.kind] += 1
        return struck
