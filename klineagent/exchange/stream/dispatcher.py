"""What a connection's messages say: read as far as it matters, counted, and handed on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import msgspec
import structlog
import trio
from attrs import define, field

from klineagent.core.errors import BadFrame
from klineagent.core.kline import Kline
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.regularity import Flaw, flaw_of
from klineagent.exchange.stream.subscriptions import ConnectionState
from klineagent.exchange.wire import (
    OtherEvent,
    StreamedCandle,
    SubscriptionResponse,
    are_forming,
    beginning_of,
    decode_frame,
    decode_streamed,
    newest_of,
)

SHUTDOWN_NOTICE = "serverShutdown"
# Half a millisecond of work; then others get their turn.
ROWS_AT_ONCE = 100
_SHOWN_BYTES = 400

log = structlog.get_logger()


@define
class FrameCounts:
    """What came over the connections so far."""

    klines: int = 0
    unwanted: int = 0
    """Of them states that did not go on, for nobody wants their stream any more."""
    other_events: int = 0
    bad: Counter[Flaw] = field(factory=Counter)
    """Frames that were dropped, by what is wrong with them."""


@define(eq=False, kw_only=True)
class Dispatcher:
    """Takes the frames of one connection.

    Closed candles go on at once. Of forming ones the newest state goes on every `conflate_s`
    seconds, and only then it is read: what a message costs until then is a look into a dict.
    One that turns out to be unreadable has taken the place of an older one; the next is near.
    """

    venue: str
    state: ConnectionState
    time: ExchangeTime
    klines: trio.MemorySendChannel[list[Kline]]
    counts: FrameCounts
    settle: Callable[[SubscriptionResponse], None]
    """Is given the exchange's answers to requests."""
    conflate_s: float
    """0 for every update."""
    handing_on: trio.Lock
    """Held while forming candles are handed on, so that connections take turns: a second's rows of
    all of them in one pass of the scheduler would take tens of milliseconds."""
    delivered: trio.Event = field(factory=trio.Event, init=False)
    """Set once a kline has come, or the connection has ended."""
    received: int = field(default=0, init=False)
    """How many have."""
    last_kline_at: float = field(default=-math.inf, init=False)
    """When the last of them came."""
    _forming: dict[bytes, bytes] = field(factory=dict, init=False)
    """By how frames of a stream begin: the one that is to be handed on."""
    _has_forming: trio.Event = field(factory=trio.Event, init=False)

    async def take(self, frames: list[bytes]) -> None:
        """Take frames, one at least, in the order they came."""
        if not self.conflate_s or not self._keep(frames):
            for at in range(0, len(frames), ROWS_AT_ONCE):
                await self._sort_out(frames[at : at + ROWS_AT_ONCE])
                await trio.lowlevel.checkpoint()

    async def hand_on_forming(self) -> NoReturn:
        """Hand on the newest states of forming candles now and then."""
        while True:
            await self._has_forming.wait()
            await trio.sleep(self.conflate_s)
            frames, self._forming = [*self._forming.values()], {}
            self._has_forming = trio.Event()
            for at in range(0, len(frames), ROWS_AT_ONCE):
                async with self.handing_on:
                    read = self._read_all(frames[at : at + ROWS_AT_ONCE])
                    await self._hand_on([candle for _, candle in read])

    def _keep(self, frames: list[bytes]) -> bool:
        """Keep forming candles for later; False if there is anything else among `frames`."""
        # The hot path: some 0.3 us for each of 36,000 candles a second.
        if not are_forming(frames):
            return False
        try:
            newest = newest_of(frames)
        except BadFrame:
            return False
        # Whether anybody wants them is asked when they go on: each dict more is cold memory.
        self._forming.update(newest)
        self._has_forming.set()
        self._count(len(frames))
        with suppress(BadFrame):  # it is told of when it goes on
            [last] = decode_streamed(frames[-1:])
            self.time.advance(last.data.E)
        return True

    async def _sort_out(self, frames: list[bytes]) -> None:
        """Keep forming candles for later, and hand on closed ones."""
        read = self._read_all(frames)
        if not read:
            return
        self._count(len(read))
        self._advance_clock([candle.data.E for _, candle in read])
        now: list[StreamedCandle] = []
        for frame, candle in read:
            # What is neither true nor false is no state to keep; it is dropped at once.
            if candle.data.k.x is not False or not self.conflate_s:
                # An older state of it may wait still; the store ranks them.
                now.append(candle)
            else:
                self._forming[beginning_of(candle.stream)] = frame
                self._has_forming.set()
        await self._hand_on(now)

    def _read_all(self, frames: list[bytes]) -> list[tuple[bytes, StreamedCandle]]:
        """The candles in `frames`, each with its own."""
        try:
            return [*zip(frames, decode_streamed(frames), strict=True)]
        except BadFrame:
            return [(frame, candle) for frame in frames if (candle := self._read(frame))]

    def _read(self, frame: bytes) -> StreamedCandle | None:
        """The candle in `frame`, if it is one; what else it may be is done here."""
        try:
            message = decode_frame(frame)
        except BadFrame as error:
            self._count_bad(Flaw.UNREADABLE, frame, str(error))
            return None
        match message:
            case StreamedCandle():
                return message
            case SubscriptionResponse():
                self.settle(message)
            case OtherEvent(kind):
                self.counts.other_events += 1
                if _is_worth_a_line(self.counts.other_events) or kind == SHUTDOWN_NOTICE:
                    log.info("feed_event", kind=kind, count=self.counts.other_events)
                if kind == SHUTDOWN_NOTICE:
                    self.state.request_replacement("the exchange is about to close it")
        return None

    def _advance_clock(self, times_ms: Sequence[int]) -> None:
        """Tell the clock the last of the times of events, and the newest if that is ahead of it."""
        newest_ms = max(times_ms)
        self.time.advance(times_ms[-1])
        # It may be behind: then somebody asks.
        if newest_ms != times_ms[-1] and not self.time.allows(newest_ms):
            self.time.advance(newest_ms)

    def _count(self, klines: int) -> None:
        self.counts.klines += klines
        self.received += klines
        self.last_kline_at = trio.current_time()
        self.delivered.set()

    async def _hand_on(self, candles: list[StreamedCandle]) -> None:
        """Hand on those of streams that somebody wants; the others are counted."""
        wanted = [candle for candle in candles if candle.stream in self.state.streams]
        self.counts.unwanted += len(candles) - len(wanted)
        rows = self._regular(wanted)
        if not rows:
            return
        # First on their way, then accounted for: a connection may be cancelled here.
        await self.klines.send([kline for _, kline in rows])
        for name, kline in rows:
            self.state.accept(name, kline)

    def _regular(self, candles: list[StreamedCandle]) -> list[tuple[str, Kline]]:
        """Streams and rows of those that are regular; the others are for REST to mend."""
        rows: list[tuple[str, Kline]] = []
        # Asked once for all of them, for each question costs as much as half of the other checks.
        are_past = self.time.allows(max((candle.data.E for candle in candles), default=0))
        for candle in candles:
            event = candle.data
            flaw = flaw_of(candle)
            if flaw is None and not are_past and not self.time.allows(event.E):
                flaw = Flaw.FUTURE
            if flaw is None:
                rows.append((candle.stream, event.as_kline(self.venue)))
            else:
                self._count_bad(flaw, msgspec.json.encode(candle))
        return rows

    def _count_bad(self, flaw: Flaw, frame: bytes, error: str = "") -> None:
        self.counts.bad[flaw] += 1
        if _is_worth_a_line(self.counts.bad[flaw]):
            log.warning(
                "bad_frame",
                reason=flaw.name.lower(),
                count=self.counts.bad[flaw],
                error=error or flaw.value,
                frame=frame[:_SHOWN_BYTES].decode(errors="replace"),
            )


def _is_worth_a_line(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th, ...: enough to see it, too few to drown the log."""
    return count.bit_count() == 1
