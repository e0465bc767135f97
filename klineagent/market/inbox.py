"""What a feed's messages say: read as far as it matters, counted, and handed on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import NoReturn, TypeVar

import structlog
import trio
from attrs import define, field
from msgspec import Raw

from klineagent.errors import BadFrame
from klineagent.kline import Kline
from klineagent.market.clock import ExchangeTime
from klineagent.market.roster import Line
from klineagent.market.wire import (
    Answer,
    KlineEvent,
    OtherEvent,
    StreamedCandle,
    decode_event,
    decode_frame,
    forming_in,
    sort_lines,
)

SHUTDOWN_NOTICE = "serverShutdown"
# Half a millisecond of work; then others get their turn.
ROWS_AT_ONCE = 100

_State = TypeVar("_State")

log = structlog.get_logger()


@define
class FrameCounts:
    """What came over the feeds so far."""

    klines: int = 0
    unwanted: int = 0
    """Of them states that did not go on, for nobody wants their stream any more."""
    other_events: int = 0
    bad: int = 0


@define(eq=False, kw_only=True)
class Inbox:
    """Takes the messages of one feed.

    Closed candles go on at once. Of forming ones the newest state goes on every `conflate_s`
    seconds, and only then it is read: what a message costs until then is a look into a dict.
    One that turns out to be unreadable has taken the place of an older one; the next is near.
    """

    venue: str
    line: Line
    time: ExchangeTime
    klines: trio.MemorySendChannel[list[Kline]]
    counts: FrameCounts
    settle: Callable[[Answer], None]
    """Is given the exchange's answers to requests."""
    conflate_s: float
    """0 for every update."""
    handing_on: trio.Lock
    """Held by whoever hands forming candles on: a second's rows of all feeds in one pass of the
    scheduler would be tens of milliseconds."""
    delivered: trio.Event = field(factory=trio.Event, init=False)
    """Set once a kline has come, or the feed has ended."""
    received: int = field(default=0, init=False)
    """How many have."""
    heard_at: float = field(default=-math.inf, init=False)
    """When the last of them came."""
    _forming: dict[str, KlineEvent | Raw] = field(factory=dict, init=False)
    """By stream: what is to be handed on, read or not. It holds a second's traffic at the most."""
    _has_forming: trio.Event = field(factory=trio.Event, init=False)

    async def take(self, message: str | bytes) -> None:
        """Take a message: one frame, or lines of many (see `Coalescing`)."""
        if isinstance(message, str):
            await self._sort_out(self._read(message))
        elif not self.conflate_s or not self._keep(message):
            lines = message.split(b"\n")
            for at in range(0, len(lines), ROWS_AT_ONCE):
                part = lines[at : at + ROWS_AT_ONCE]
                await self._sort_out([candle for line in part for candle in self._read(line)])
                await trio.lowlevel.checkpoint()

    async def hand_on_forming(self) -> NoReturn:
        """Hand on the newest states of forming candles now and then."""
        while True:
            await self._has_forming.wait()
            await trio.sleep(self.conflate_s)
            states, self._forming = self._forming, {}
            self._has_forming = trio.Event()
            forming = self._wanted(states.items())
            for at in range(0, len(forming), ROWS_AT_ONCE):
                async with self.handing_on:
                    await self._hand_on(forming[at : at + ROWS_AT_ONCE])

    def _keep(self, lines: bytes) -> bool:
        """Keep forming candles for later; False if there is anything else among `lines`."""
        # The hot path: some 0.4 us for each of 36,000 candles a second.
        try:
            frames = sort_lines(lines)
        except BadFrame:
            return False
        if not frames or forming_in(lines) != len(frames):
            return False
        # Whether anybody wants them is asked when they go on: each dict more is cold memory.
        self._forming.update({frame.stream: frame.data for frame in frames})
        self._has_forming.set()
        self._count(len(frames))
        with suppress(BadFrame):  # it is told of when it goes on
            self._hear(decode_event(frames[-1].data))
        return True

    def _read(self, frame: str | bytes) -> list[StreamedCandle]:
        """The candle in `frame`, if it is one; what else it may be is done here."""
        try:
            message = decode_frame(frame)
        except BadFrame as error:
            self._count_bad(error, frame)
            return []
        match message:
            case StreamedCandle():
                return [message]
            case Answer():
                self.settle(message)
            case OtherEvent(kind):
                self.counts.other_events += 1
                if _is_worth_a_line(self.counts.other_events) or kind == SHUTDOWN_NOTICE:
                    log.info("feed_event", kind=kind, count=self.counts.other_events)
                if kind == SHUTDOWN_NOTICE:
                    self.line.give_way("the exchange is about to close it")
        return []

    async def _sort_out(self, candles: list[StreamedCandle]) -> None:
        """Keep forming candles for later, and hand on closed ones."""
        if not candles:
            return
        self._count(len(candles))
        self._hear(candles[-1].data)
        now: list[tuple[str, KlineEvent]] = []
        for candle in candles:
            name, event = candle.stream, candle.data
            if event.k.x or not self.conflate_s:
                # An older state of it may wait still; the store ranks them.
                now.append((name, event))
            else:
                self._forming[name] = event
                self._has_forming.set()
        await self._hand_on(self._wanted(now))

    def _wanted(self, states: Collection[tuple[str, _State]]) -> list[tuple[str, _State]]:
        """Those of streams that somebody wants; the others are counted."""
        wanted = [state for state in states if state[0] in self.line.streams]
        self.counts.unwanted += len(states) - len(wanted)
        return wanted

    def _hear(self, event: KlineEvent) -> None:
        if event.tells_time:
            self.time.hear(event.E)

    def _count(self, klines: int) -> None:
        self.counts.klines += klines
        self.received += klines
        self.heard_at = trio.current_time()
        self.delivered.set()

    async def _hand_on(self, states: Iterable[tuple[str, KlineEvent | Raw]]) -> None:
        rows = [(name, row) for name, state in states if (row := self._row_of(name, state))]
        if not rows:
            return
        # First on their way, then accounted for: a feed may be cancelled here.
        await self.klines.send([kline for _, kline in rows])
        for name, kline in rows:
            self.line.accept(name, kline)

    def _row_of(self, name: str, state: KlineEvent | Raw) -> Kline | None:
        try:
            event = state if isinstance(state, KlineEvent) else decode_event(state)
            return event.as_kline(self.venue)
        except BadFrame as error:
            self._count_bad(error, name)
            return None

    def _count_bad(self, error: BadFrame, frame: str | bytes) -> None:
        self.counts.bad += 1
        if _is_worth_a_line(self.counts.bad):
            log.warning("bad_frame", count=self.counts.bad, error=str(error), frame=frame[:200])


def _is_worth_a_line(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th, ...: enough to see it, too few to drown the log."""
    return count.bit_count() == 1
