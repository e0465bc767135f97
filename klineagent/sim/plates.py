"""Frames that lack nothing but their event time: encoded once, sent many times. Pure.

What an event costs is the printing of its numbers; filling in a time is five times cheaper.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from klineagent.sim.frames import StreamEvent

_BEFORE_TIME = b'"E":'


class Plate(NamedTuple):
    """A frame up to its event time, and from there on."""

    before: bytes
    after: bytes


def plate_of(event: StreamEvent, *, combined: bool) -> Plate:
    """The frame of a kline's event, bare or in the envelope of combined streams.

    Its time must have as many digits as those that are filled in: milliseconds have 13 until 2286.
    """
    frame = event.framed(combined=combined)
    start = frame.index(_BEFORE_TIME) + len(_BEFORE_TIME)
    return Plate(frame[:start], frame[start + len(str(event.event_ms)) :])


def printed(plates: Iterable[Plate], event_ms: int) -> bytes:
    """One frame after the other, all of the same time."""
    time = b"%d" % event_ms
    parts: list[bytes] = []
    for before, after in plates:
        parts += before, time, after
    return b"".join(parts)
