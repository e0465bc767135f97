"""The order of one series' events: candle after candle, with those that were fetched. Pure."""

from __future__ import annotations

from attrs import define, field

from klineagent.core.interval import Interval
from klineagent.reading.streams.events import CandleEvent
from klineagent.series.spans import Spans

NONE_YET = -1


@define(eq=False)
class CandleOrder:
    """Holds events back until those of all earlier candles have closed.

    So a candle whose closing event was lost comes, once it was fetched, before the next one. Who
    holds it decides how long to wait, and calls `skip`.
    """

    _interval: Interval
    newest: CandleEvent | None = field(default=None, init=False)
    """The last that was handed on."""
    _next_ms: int = field(default=NONE_YET, init=False)
    """The candle whose closing event is next."""
    _closed: dict[int, CandleEvent] = field(factory=dict, init=False)
    _forming: CandleEvent | None = field(default=None, init=False)
    _skipped: Spans[None] = field(factory=Spans, init=False)

    @property
    def awaited(self) -> tuple[int, int] | None:
        """The range of open times that held events wait for; None if none is held."""
        held = [*self._closed]
        if self._forming is not None:
            held.append(self._forming.open_ms)
        return (self._next_ms, min(held)) if held else None

    def put(self, event: CandleEvent) -> list[CandleEvent]:
        """Take an event; return those whose turn it is now."""
        open_ms = event.open_ms
        if self._next_ms == NONE_YET:
            self._next_ms = open_ms
        if open_ms < self._next_ms:
            # Two connections may both have carried it, or it was given up and comes after all.
            is_late = event.is_closing and bool(self._skipped.clear(open_ms, open_ms + 1))
            return [event] if is_late else []
        if event.is_closing:
            self._closed[open_ms] = event
        elif _is_newer(event, self._forming) and _is_newer(event, self.newest):
            self._forming = event
        return self._due()

    def skip(self) -> list[CandleEvent]:
        """Give up the awaited candles; return the events whose turn it is then."""
        awaited = self.awaited
        if awaited is None:
            return []
        first_ms, self._next_ms = awaited
        self._skipped.mark(first_ms, self._next_ms, None)
        return self._due()

    def _due(self) -> list[CandleEvent]:
        due: list[CandleEvent] = []
        while (closed := self._closed.pop(self._next_ms, None)) is not None:
            due.append(closed)
            self._next_ms = self._interval.next_open(self._interval.open_at(self._next_ms))
        if self._forming is not None and self._forming.open_ms <= self._next_ms:
            if self._forming.open_ms == self._next_ms:
                due.append(self._forming)
            self._forming = None
        if due:
            self.newest = due[-1]
        return due


def _is_newer(event: CandleEvent, than: CandleEvent | None) -> bool:
    if than is None:
        return True
    return (event.open_ms, event.kline.version) > (than.open_ms, than.kline.version)
