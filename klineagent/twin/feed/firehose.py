"""The market's event_source at a rate: more events a second than could be encoded one by one.

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
from klineagent.twin.feed.events import EventSource
from klineagent.twin.interval import MINUTE_MS, TwinInterval
from klineagent.twin.market.candle import Candle
from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.socket.connections import ClientConnections
from klineagent.twin.socket.protocol import SocketProtocol
from klineagent.twin.wire import Series, StreamEvent

MAX_RATE = math.inf
"""As fast as clients read."""

_STEP_S = 0.01
# What a twin that was held up makes good; the rest is left out, as by any overloaded exchange.
_MOST_ARREARS_S = 1.0
# Of an unlimited client: 170 kB, and less than a millisecond until others run.
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
    _event_source: EventSource
    _series: Mapping[str, Series]
    """All there are, by the names of their streams."""
    _connections: ClientConnections
    _has_event: Callable[[Candle], bool]
    """Whether the close of a candle has an event."""
    _edge_ms: int = field(init=False)
    """Candles that end here have closed, later ones have not."""
    _rotations: WeakKeyDictionary[ClientConnection, _Rotation] = field(
        init=False, factory=WeakKeyDictionary
    )
    _closings: dict[tuple[int, str, bool], FrameTemplate | None] = field(init=False, factory=dict)

    @_edge_ms.default
    def _last_edge(self) -> int:
        return TwinInterval.M1.open_at(self._clock.now_ms())

    async def run(self) -> NoReturn:
        """Push events for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._foresee)
            await self._pace()
        raise AssertionError("pacing ended")

    def refill(self, client: ClientConnection) -> None:
        """`client` has nothing left to write."""
        if self.rate == MAX_RATE:
            now_ms = self._turn()
            client.send(self._rotation(client).growth(_FRAMES_AT_ONCE, now_ms))

    async def _pace(self) -> NoReturn:
        paid_until = trio.current_time()
        while True:
            await trio.sleep(_STEP_S)
            now_ms, now = self._turn(), trio.current_time()
            if self.rate < MAX_RATE:
                self._pour(min(now - paid_until, _MOST_ARREARS_S) * self.rate, now_ms)
            paid_until = now

    def _pour(self, due: float, now_ms: int) -> None:
        """Send so many growing updates, to each client its streams' share of them."""
        rounds = {client: self._rotation(client) for client in self._connections.clients}
        heard = sum(len(each.streams) for each in rounds.values())
        for client, each in rounds.items():
            each.owed += due * len(each.streams) / max(1, heard)
            count = int(each.owed)
            each.owed -= count
            client.send(each.growth(count, now_ms))

    def _turn(self) -> int:
        """Send closing events if a minute has ended, and return the time.

        It waits for nothing, so that no client hears of the next candle first.
        """
        now_ms = self._clock.now_ms()
        while self._edge_ms < TwinInterval.M1.open_at(now_ms):
            self._edge_ms += MINUTE_MS
            for client in self._connections.clients:
                templates = (
                    self._closing(self._edge_ms, stream, combined)
                    for stream, combined in self._rotation(client).ending_at(self._edge_ms)
                )
                client.send(filled_in((template for template in templates if template), now_ms))
            self._closings.clear()
        return now_ms

    async def _foresee(self) -> NoReturn:
        while True:
            edge_ms = TwinInterval.M1.open_at(self._clock.now_ms()) + MINUTE_MS
            await self._clock.sleep_until(edge_ms - _FORESIGHT_MS)
            for client in tuple(self._connections.clients):
                ending = self._rotation(client).ending_at(edge_ms)
                for number, (stream, combined) in enumerate(ending):
                    if number % _FORESEEN_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()
                    self._closing(edge_ms, stream, combined)
            await self._clock.sleep_until(edge_ms)

    def _closing(self, edge_ms: int, stream: str, combined: bool) -> FrameTemplate | None:
        """A stream's closing event, made now or foreseen."""
        key = edge_ms, stream, combined
        if key not in self._closings:
            event = self._event_source.closing(stream, edge_ms, self._has_event)
            self._closings[key] = template_of(event, combined=combined) if event else None
        return self._closings[key]

    def _rotation(self, client: ClientConnection) -> _Rotation:
        each = self._rotations.get(client)
        if each is None:
            each = self._rotations[client] = _Rotation(
                protocol=client.protocol, series=self._series, peek=self._event_source.peek
            )
        each.refresh()
        return each


@define(kw_only=True, eq=False)
class _Rotation:
    """The streams that one connection hears, and whose turn it is."""

    streams: list[str] = field(init=False, factory=list)
    owed: float = field(init=False, default=0.0)
    """Growing updates that are due, and the fraction of one."""
    _protocol: SocketProtocol
    _series: Mapping[str, Series]
    _peek: Callable[[str, int], StreamEvent | None]
    _as_of: tuple[int, bool] = field(init=False, default=(-1, False))
    _minute_ms: int = field(init=False, default=-1)
    _templates: dict[str, FrameTemplate] = field(init=False, factory=dict)
    """What has been encoded in this minute."""
    _place: int = field(init=False, default=0)

    def refresh(self) -> None:
        """Notice what was subscribed to since, and in which shape."""
        as_of = self._protocol.changes, self._protocol.combined
        if as_of == self._as_of:
            return
        self._as_of = as_of
        self.streams = [
            name
            for name, is_delivered in self._protocol.streams.items()
            if is_delivered and name in self._series
        ]
        self._templates.clear()

    def growth(self, count: int, now_ms: int) -> bytes:
        """Growing updates of the next `count` streams."""
        if not self.streams:
            return b""
        minute_ms = TwinInterval.M1.open_at(now_ms)
        if minute_ms != self._minute_ms:
            self._minute_ms = minute_ms
            self._templates.clear()
        return filled_in(self._next_templates(count, now_ms), now_ms)

    def _next_templates(self, count: int, now_ms: int) -> Iterator[FrameTemplate]:
        templates, streams = self._templates, self.streams
        for place in range(self._place, self._place + count):
            stream = streams[place % len(streams)]
            template = templates.get(stream)
            if template is None:
                event = self._peek(stream, now_ms)
                if event is None:
                    continue
                template = templates[stream] = template_of(event, combined=self._protocol.combined)
            yield template
        self._place = (self._place + count) % len(streams)

    def ending_at(self, edge_ms: int) -> Iterator[tuple[str, bool]]:
        """The streams whose candle ends there, and whether they are combined."""
        ending = {interval for interval in TwinInterval if interval.open_at(edge_ms) == edge_ms}
        for stream in self.streams:
            if self._series[stream].interval in ending:
                yield stream, self._protocol.combined


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


class FrameTemplate(NamedTuple):
    """A frame up to its event time, and from there on."""

    before: bytes
    after: bytes


def template_of(event: StreamEvent, *, combined: bool) -> FrameTemplate:
    """The frame of a kline's event, bare or in the envelope of combined streams.

    Its time must have as many digits as those that are filled in: milliseconds have 13 until 2286.
    """
    frame = event.framed(combined=combined)
    start = frame.index(_BEFORE_TIME) + len(_BEFORE_TIME)
    return FrameTemplate(frame[:start], frame[start + len(str(event.event_ms)) :])


def filled_in(templates: Iterable[FrameTemplate], event_ms: int) -> bytes:
    """One frame after the other, all of the same time."""
    time = b"%d" % event_ms
    parts: list[bytes] = []
    for before, after in templates:
        parts += before, time, after
    return b"".join(parts)
