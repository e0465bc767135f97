"""Events at a fixed rate: more a second than could be encoded one by one.

Each stream's event is encoded once a minute, when first sent; afterwards only its time changes.
Clients get what any exchange sends: events of their streams, with true values at the close.
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
# A delayed twin catches up on this much; the rest is skipped, as by an overloaded exchange.
_MOST_ARREARS_S = 1.0
# For a client at unlimited rate: 170 kB, less than a millisecond before other tasks run.
_FRAMES_AT_ONCE = 512
# Closing events are encoded ahead, a few at a time, while their candles are still open. This is
# safe: a minute that has begun is already determined.
_FORESIGHT_MS = 10_000
_FORESEEN_AT_ONCE = 32


@define(kw_only=True, eq=False)
class Firehose:
    """Sends forming updates of all subscribed streams, `rate` a second in all, and closing events.

    The streams of each client take turns. At `MAX_RATE` a client gets more whenever its send buffer
    is empty; it must be on a real socket, which buffers a limited amount. At 0 only closing events
    are sent. Streams of 1s candles are not among them: their only event closes.
    """

    rate: float
    _clock: ExchangeClock
    _event_source: EventSource
    _series: Mapping[str, Series]
    """All series by stream name."""
    _connections: ClientConnections
    _has_event: Callable[[Candle], bool]
    """Whether a candle has a closing event."""
    _edge_ms: int = field(init=False)
    """The last minute's end at which closing events were sent."""
    _rotations: WeakKeyDictionary[ClientConnection, _Rotation] = field(
        init=False, factory=WeakKeyDictionary
    )
    _closings: dict[tuple[int, str, bool], FrameTemplate | None] = field(init=False, factory=dict)

    @_edge_ms.default
    def _last_edge(self) -> int:
        return TwinInterval.M1.open_at(self._clock.now_ms())

    async def run(self) -> NoReturn:
        """Send events for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._foresee)
            await self._pace()
        raise AssertionError("pacing ended")

    def refill(self, client: ClientConnection) -> None:
        """Send more to `client`, whose send buffer is empty."""
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
        """Send `due` forming updates, shared among clients by their number of streams."""
        rounds = {client: self._rotation(client) for client in self._connections.clients}
        subscribed = sum(len(each.streams) for each in rounds.values())
        for client, each in rounds.items():
            each.owed += due * len(each.streams) / max(1, subscribed)
            count = int(each.owed)
            each.owed -= count
            client.send(each.growth(count, now_ms))

    def _turn(self) -> int:
        """Send closing events if a minute has ended; return the exchange's time.

        It does not await, so that no client gets an event of the next candle first.
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
        """A stream's closing event, encoded now or ahead."""
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
    """The subscribed streams of one client, and whose turn it is."""

    streams: list[str] = field(init=False, factory=list)
    owed: float = field(init=False, default=0.0)
    """Forming updates that are due, with a fraction."""
    _protocol: SocketProtocol
    _series: Mapping[str, Series]
    _peek: Callable[[str, int], StreamEvent | None]
    _as_of: tuple[int, bool] = field(init=False, default=(-1, False))
    _minute_ms: int = field(init=False, default=-1)
    _templates: dict[str, FrameTemplate] = field(init=False, factory=dict)
    """Events encoded in this minute, by stream."""
    _place: int = field(init=False, default=0)

    def refresh(self) -> None:
        """Take over changes of the subscriptions and of their shape."""
        as_of = self._protocol.changes, self._protocol.combined
        if as_of == self._as_of:
            return
        self._as_of = as_of
        self.streams = [
            name
            for name, is_delivered in self._protocol.streams.items()
            if is_delivered
            and (series := self._series.get(name)) is not None
            and series.interval is not TwinInterval.S1
        ]
        self._templates.clear()

    def growth(self, count: int, now_ms: int) -> bytes:
        """Forming updates of the next `count` streams, as frames."""
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
        """Yield the streams whose candle ends at `edge_ms`, and whether they are combined."""
        ending = {interval for interval in TwinInterval if interval.open_at(edge_ms) == edge_ms}
        for stream in self.streams:
            if self._series[stream].interval in ending:
                yield stream, self._protocol.combined


def parse_rate(text: str) -> float:
    """Parse a number of events a second, or `max`.

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
    """A frame split around its event time."""

    before: bytes
    after: bytes


def template_of(event: StreamEvent, *, combined: bool) -> FrameTemplate:
    """Make the template of a kline event, bare or in the envelope of combined streams.

    Times filled in must have as many digits as its own: milliseconds have 13 until 2286.
    """
    frame = event.framed(combined=combined)
    start = frame.index(_BEFORE_TIME) + len(_BEFORE_TIME)
    return FrameTemplate(frame[:start], frame[start + len(str(event.event_ms)) :])


def filled_in(templates: Iterable[FrameTemplate], event_ms: int) -> bytes:
    """Fill the same time into each template and join the frames."""
    time = b"%d" % event_ms
    parts: list[bytes] = []
    for before, after in templates:
        parts += before, time, after
    return b"".join(parts)
