"""The market's voice at a rate: more events a second than could be encoded one by one.

Each is encoded once a minute, when it is first sent; from then on only its time is new. A client
hears what it hears of any exchange: events of its streams, true ones when a candle closes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, NoReturn
from weakref import WeakKeyDictionary

import trio
from attrs import define, field

from klineagent.core.errors import ConfigError
from klineagent.twin.clock import ExchangeClock
from klineagent.twin.feed.events import Voice
from klineagent.twin.interval import MINUTE_MS, Interval
from klineagent.twin.market.candle import Candle
from klineagent.twin.socket.connection import Line
from klineagent.twin.socket.connections import Connections
from klineagent.twin.socket.protocol import SocketSide
from klineagent.twin.wire import Series, StreamEvent

MAX_RATE = math.inf
"""As fast as clients read."""

_STEP_S = 0.01
# What a twin that was held up makes good; the rest is left out, as by any overloaded exchange.
_MOST_ARREARS_S = 1.0
# Of an unlimited line: 170 kB, and less than a millisecond until others run.
_FRAMES_AT_ONCE = 512
# Closing events are encoded ahead, a few at a time, while their candles are still open. That is
# safe: of a minute that has begun the market has made up its mind.
_FORESIGHT_MS = 10_000
_FORESEEN_AT_ONCE = 32


@define(kw_only=True, eq=False)
class Firehose:
    """Growing updates of all streams that are heard, `rate` a second in all, and closing events.

    Each client's streams take turns. At `MAX_RATE` a client gets more whenever all it was sent is
    on its way; such a client must be on a socket, which holds only so much. At 0 there are closing
    events alone.
    """

    rate: float
    _clock: ExchangeClock
    _voice: Voice
    _series: Mapping[str, Series]
    """All there are, by the names of their streams."""
    _connections: Connections
    _speaks_of: Callable[[Candle], bool]
    """Whether the close of a candle has an event."""
    _edge_ms: int = field(init=False)
    """Candles that end here have closed, later ones have not."""
    _rounds: WeakKeyDictionary[Line, _Round] = field(init=False, factory=WeakKeyDictionary)
    _closings: dict[tuple[int, str, bool], Plate | None] = field(init=False, factory=dict)

    @_edge_ms.default
    def _last_edge(self) -> int:
        return Interval.M1.open_at(self._clock.now_ms())

    async def run(self) -> NoReturn:
        """Push events for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._foresee)
            await self._pace()
        raise AssertionError("pacing ended")

    def refill(self, line: Line) -> None:
        """`line` has nothing left to write."""
        if self.rate == MAX_RATE:
            now_ms = self._turn()
            line.send(self._round(line).growth(_FRAMES_AT_ONCE, now_ms))

    async def _pace(self) -> NoReturn:
        paid_until = trio.current_time()
        while True:
            await trio.sleep(_STEP_S)
            now_ms, now = self._turn(), trio.current_time()
            if self.rate < MAX_RATE:
                self._pour(min(now - paid_until, _MOST_ARREARS_S) * self.rate, now_ms)
            paid_until = now

    def _pour(self, due: float, now_ms: int) -> None:
        """Send so many growing updates, to each line its streams' share of them."""
        rounds = {line: self._round(line) for line in self._connections.lines}
        heard = sum(len(each.streams) for each in rounds.values())
        for line, each in rounds.items():
            each.owed += due * len(each.streams) / max(1, heard)
            count = int(each.owed)
            each.owed -= count
            line.send(each.growth(count, now_ms))

    def _turn(self) -> int:
        """Send closing events if a minute has ended, and return the time.

        It waits for nothing, so that no line hears of the next candle first.
        """
        now_ms = self._clock.now_ms()
        while self._edge_ms < Interval.M1.open_at(now_ms):
            self._edge_ms += MINUTE_MS
            for line in self._connections.lines:
                plates = (
                    self._closing(self._edge_ms, stream, combined)
                    for stream, combined in self._round(line).ending_at(self._edge_ms)
                )
                line.send(printed((plate for plate in plates if plate), now_ms))
            self._closings.clear()
        return now_ms

    async def _foresee(self) -> NoReturn:
        while True:
            edge_ms = Interval.M1.open_at(self._clock.now_ms()) + MINUTE_MS
            await self._clock.sleep_until(edge_ms - _FORESIGHT_MS)
            for line in tuple(self._connections.lines):
                ending = self._round(line).ending_at(edge_ms)
                for number, (stream, combined) in enumerate(ending):
                    if number % _FORESEEN_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()
                    self._closing(edge_ms, stream, combined)
            await self._clock.sleep_until(edge_ms)

    def _closing(self, edge_ms: int, stream: str, combined: bool) -> Plate | None:
        """A stream's closing event, made now or foreseen."""
        key = edge_ms, stream, combined
        if key not in self._closings:
            event = self._voice.closing(stream, edge_ms, self._speaks_of)
            self._closings[key] = plate_of(event, combined=combined) if event else None
        return self._closings[key]

    def _round(self, line: Line) -> _Round:
        each = self._rounds.get(line)
        if each is None:
            each = self._rounds[line] = _Round(
                side=line.side, series=self._series, peek=self._voice.peek
            )
        each.refresh()
        return each


@define(kw_only=True, eq=False)
class _Round:
    """The streams that one connection hears, and whose turn it is."""

    streams: list[str] = field(init=False, factory=list)
    owed: float = field(init=False, default=0.0)
    """Growing updates that are due, and the fraction of one."""
    _side: SocketSide
    _series: Mapping[str, Series]
    _peek: Callable[[str, int], StreamEvent | None]
    _as_of: tuple[int, bool] = field(init=False, default=(-1, False))
    _minute_ms: int = field(init=False, default=-1)
    _plates: dict[str, Plate] = field(init=False, factory=dict)
    """What has been encoded in this minute."""
    _place: int = field(init=False, default=0)

    def refresh(self) -> None:
        """Notice what was subscribed to since, and in which shape."""
        as_of = self._side.changes, self._side.combined
        if as_of == self._as_of:
            return
        self._as_of = as_of
        self.streams = [
            name
            for name, is_heard in self._side.streams.items()
            if is_heard and name in self._series
        ]
        self._plates.clear()

    def growth(self, count: int, now_ms: int) -> bytes:
        """Growing updates of the next `count` streams."""
        if not self.streams:
            return b""
        minute_ms = Interval.M1.open_at(now_ms)
        if minute_ms != self._minute_ms:
            self._minute_ms = minute_ms
            self._plates.clear()
        return printed(self._next_plates(count, now_ms), now_ms)

    def _next_plates(self, count: int, now_ms: int) -> Iterator[Plate]:
        plates, streams = self._plates, self.streams
        for place in range(self._place, self._place + count):
            stream = streams[place % len(streams)]
            plate = plates.get(stream)
            if plate is None:
                event = self._peek(stream, now_ms)
                if event is None:
                    continue
                plate = plates[stream] = plate_of(event, combined=self._side.combined)
            yield plate
        self._place = (self._place + count) % len(streams)

    def ending_at(self, edge_ms: int) -> Iterator[tuple[str, bool]]:
        """The streams whose candle ends there, and whether they are combined."""
        ending = {interval for interval in Interval if interval.open_at(edge_ms) == edge_ms}
        for stream in self.streams:
            if self._series[stream].interval in ending:
                yield stream, self._side.combined


def parse_rate(text: str) -> float:
    """Read a number of events a second, or `max`.

    Raises:
        ConfigError: it is neither.
    """
    if text == "max":
        return MAX_RATE
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ConfigError(f"--rate: {text!r} is neither a number from 0 on nor max")
    return rate


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
