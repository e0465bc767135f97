"""Lies in events: each function takes events and yields those that are sent. Pure.

Only lies that a client can detect: a frame that contradicts itself or its stream, a time that other
evidence contradicts, a forming state of a closed candle. Consistent but wrong values could not be
detected by any client.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from attrs import define, evolve, field

from klineagent.twin.faults.events import Chance, Events
from klineagent.twin.wire import StreamEvent

_EVENT_TIME, _CLOSE_TIME = re.compile(rb'"E":(\d+)'), re.compile(rb'"T":(\d+)')
_LATER_MS = (1, 250, 3_000, 20_000)
_MOST_LATE_MS = 30_000


def late_forming(
    chance: Chance, hold: Callable[[int, StreamEvent], None], events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Send forming states with later times after a candle's closing event.

    One follows at once; another is passed to `hold`, which sends it later.
    """
    for event in events:
        yield event
        if event.is_closing and chance.strikes():
            forming = evolve(
                event, payload=event.payload.replace(b'"x":true', b'"x":false'), is_closing=False
            )
            later_ms, held_ms = chance.dice.choice(_LATER_MS), chance.dice.randint(1, _MOST_LATE_MS)
            yield _dated(forming, event.event_ms + later_ms)
            hold(held_ms, _dated(forming, event.event_ms + held_ms))


def repeated_closings(
    chance: Chance, hold: Callable[[int, StreamEvent], None], events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Send closing events again later, with a later time."""
    for event in events:
        yield event
        if event.is_closing and chance.strikes():
            held_ms = chance.dice.randint(1, _MOST_LATE_MS)
            hold(held_ms, _dated(event, event.event_ms + held_ms))


def wrong_times(
    chance: Chance, by_ms: int | None, events: Events, _now_ms: int
) -> Iterator[StreamEvent]:
    """Shift event times `by_ms`, or for None to any time up to their candle's end."""
    for event in events:
        if not chance.strikes():
            yield event
        elif by_ms is not None:
            yield _dated(event, event.event_ms + by_ms)
        else:
            times = sorted((event.event_ms, _number(_CLOSE_TIME, event)))
            yield _dated(event, chance.dice.randint(*times))


@define(eq=False)
class CrossedStreams:
    """Replaces closing events by those of another symbol or interval, under the stream's name."""

    chance: Chance
    _by_interval: dict[str, StreamEvent] = field(init=False, factory=dict)
    _last: StreamEvent | None = field(init=False, default=None)

    def __call__(self, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
        """See `Tampering`."""
        for event in events:
            if not event.is_closing:
                yield event
                continue
            interval = event.stream.rpartition("_")[2]
            others = (self._by_interval.get(interval), self._last)
            other = self.chance.dice.choice(others)
            self._by_interval[interval] = self._last = event
            if other is not None and other.stream != event.stream and self.chance.strikes():
                yield evolve(event, payload=other.payload)
            else:
                yield event


def contradictions(chance: Chance, events: Events, _now_ms: int) -> Iterator[StreamEvent]:
    """Make candles in events contradictory, so that closing events are lost."""
    for event in events:
        yield _contradictory(event, chance.dice) if chance.strikes() else event


def _contradictory(event: StreamEvent, dice: random.Random) -> StreamEvent:
    pattern, text = dice.choice(_CONTRADICTIONS)
    return evolve(event, payload=re.sub(pattern, text, event.payload, count=1))


# Each keeps the text valid JSON, and every field of its type.
_CONTRADICTIONS = (
    (rb'"h":"[^"]*"', b'"h":"0.00000001"'),
    (rb'"l":"[^"]*"', b'"l":"99999999"'),
    (rb'"c":"', b'"c":"9999999'),
    (rb'"o":"', b'"o":"-'),
    (rb'"v":"', b'"v":"-1'),
    (rb'"V":"', b'"V":"9999999'),
    (rb'"n":\d+', b'"n":-2'),
    (rb'"T":\d+', b'"T":5'),
    (rb'"t":(\d+)\d{5},"T":(\d+)\d{5}', rb'"t":\g<1>07001,"T":\g<2>07000'),
    (rb'"k":(.*)"s":"', rb'"k":\1"s":"X'),
    (rb'"i":"', b'"i":"7'),
)


def _dated(event: StreamEvent, event_ms: int) -> StreamEvent:
    payload = _EVENT_TIME.sub(b'"E":%d' % event_ms, event.payload, count=1)
    return evolve(event, payload=payload)


def _number(pattern: re.Pattern[bytes], event: StreamEvent) -> int:
    found = pattern.search(event.payload)
    return event.event_ms if found is None else int(found[1])
