"""Dispatch of a connection's frames: decoded as late as possible, counted, and handed on."""

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
from klineagent.core.kline import Kline, Publish
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.regularity import Flaw, flaw_of
from klineagent.exchange.stream.stream_set import ConnectionState
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
# Half a millisecond of work between two checkpoints.
ROWS_AT_ONCE = 100
_SHOWN_BYTES = 400

# Handing a row on and storing it costs several times what its frame cost until then. With all of
# Binance, 33,000 streams, a forming candle is stored every four seconds; closed ones at once.
STREAMS_EACH_SECOND = 9_000

log = structlog.get_logger()


@define
class FrameCounts:
    """Counts frames of all connections since the start."""

    klines: int = 0
    unwanted: int = 0
    """Klines that were dropped because their stream is not wanted any more."""
    other_events: int = 0
    bad: Counter[Flaw] = field(factory=Counter)
    """Frames that were dropped, by their flaw."""


def _none() -> int:
    return 0


@define(eq=False)
class FormingTurns:
    """Turns of all connections of an agent at handing forming candles on."""

    streams: Callable[[], int] = _none
    """Counts the streams of all venues."""
    turn: trio.Lock = field(factory=trio.Lock, init=False)
    """Held while some are handed on: a second's rows of all connections in one pass of the
    scheduler would take tens of milliseconds."""

    @property
    def stretch(self) -> float:
        """How many times as long a state waits as it does where few streams run."""
        return max(1.0, self.streams() / STREAMS_EACH_SECOND)


@define(eq=False, kw_only=True)
class Dispatcher:
    """Dispatches the frames of one connection to its streams and to the channel of klines.

    Closed candles are handed on at once. The newest states of forming candles are handed on every
    `conflate_s` seconds and decoded only then; until then a frame costs one look into a dict. A
    frame that proves unreadable then has replaced an older state; the next one follows soon.
    """

    venue: str
    state: ConnectionState
    time: ExchangeTime
    publish: Publish
    counts: FrameCounts
    settle: Callable[[SubscriptionResponse], None]
    """The function to call with the exchange's responses to requests."""
    conflate_s: float
    """Seconds between two states of a forming candle that are handed on; 0 hands on all."""
    turns: FormingTurns
    delivered: trio.Event = field(factory=trio.Event, init=False)
    """Set once a kline has arrived, or the connection has ended."""
    received: int = field(default=0, init=False)
    """The number of klines that have arrived."""
    last_kline_at: float = field(default=-math.inf, init=False)
    """When the last kline arrived, by Trio's clock."""
    _forming: dict[bytes, bytes] = field(factory=dict, init=False)
    """The newest frame of each stream to hand on, by the bytes that its frames begin with."""
    _has_forming: trio.Event = field(factory=trio.Event, init=False)

    async def take(self, frames: list[bytes]) -> None:
        """Dispatch frames, at least one, in the order in which they came."""
        if not self.conflate_s or not self._keep(frames):
            for at in range(0, len(frames), ROWS_AT_ONCE):
                await self._sort_out(frames[at : at + ROWS_AT_ONCE])
                await trio.lowlevel.checkpoint()

    async def hand_on_forming(self) -> NoReturn:
        """Hand on the newest states of forming candles every `conflate_s` seconds, or as often.

        See `FormingTurns`.
        """
        while True:
            await self._has_forming.wait()
            await trio.sleep(self.conflate_s * self.turns.stretch)
            frames, self._forming = [*self._forming.values()], {}
            self._has_forming = trio.Event()
            for at in range(0, len(frames), ROWS_AT_ONCE):
                async with self.turns.turn:
                    read = self._read_all(frames[at : at + ROWS_AT_ONCE])
                    await self._hand_on(read)

    def _keep(self, frames: list[bytes]) -> bool:
        """Keep frames of forming candles for later; False if `frames` holds anything else."""
        # The hot path: some 0.3 us for each of 36,000 candles a second.
        if not are_forming(frames):
            return False
        try:
            newest = newest_of(frames)
        except BadFrame:
            return False
        # Unwanted streams are dropped when they are handed on: one more dict here is cold memory.
        self._forming.update(newest)
        self._has_forming.set()
        self._count(len(frames))
        with suppress(BadFrame):  # it is counted when it is handed on
            [last] = decode_streamed(frames[-1:])
            self.time.advance(last.data.E)
        return True

    async def _sort_out(self, frames: list[bytes]) -> None:
        """Keep forming candles for later and hand on closed ones."""
        read = self._read_all(frames)
        if not read:
            return
        self._count(len(read))
        self._advance_clock([candle.data.E for _, candle in read])
        now: list[tuple[bytes, StreamedCandle]] = []
        for frame, candle in read:
            # A flag that is neither true nor false is a flaw, and the frame is dropped at once.
            if candle.data.k.x is not False or not self.conflate_s:
                self._forget_forming(candle)
                now.append((frame, candle))
            else:
                self._forming[beginning_of(candle.stream)] = frame
                self._has_forming.set()
        await self._hand_on(now)

    def _forget_forming(self, closed: StreamedCandle) -> None:
        """Drop a kept state of a candle that has closed: live readers would see it form again."""
        beginning = beginning_of(closed.stream)
        if (frame := self._forming.get(beginning)) is not None:
            with suppress(BadFrame):  # it is counted when it is handed on
                [kept] = decode_streamed([frame])
                if kept.data.k.t == closed.data.k.t:
                    del self._forming[beginning]

    def _read_all(self, frames: list[bytes]) -> list[tuple[bytes, StreamedCandle]]:
        """Decode the candles in `frames`, each with its frame."""
        try:
            return [*zip(frames, decode_streamed(frames), strict=True)]
        except BadFrame:
            return [(frame, candle) for frame in frames if (candle := self._read(frame))]

    def _read(self, frame: bytes) -> StreamedCandle | None:
        """Decode the candle in `frame`; handle any other message and return None."""
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
        """Advance the clock to the last event time, and to the newest if that is ahead of it."""
        newest_ms = max(times_ms)
        self.time.advance(times_ms[-1])
        # The clock may be behind; an event ahead of it makes the timekeeper ask for the time.
        if newest_ms != times_ms[-1] and not self.time.allows(newest_ms):
            self.time.advance(newest_ms)

    def _count(self, klines: int) -> None:
        self.counts.klines += klines
        self.received += klines
        self.last_kline_at = trio.current_time()
        self.delivered.set()

    async def _hand_on(self, read: list[tuple[bytes, StreamedCandle]]) -> None:
        """Hand on the candles of wanted streams, with their frames, and count the others."""
        wanted = [each for each in read if each[1].stream in self.state.streams]
        self.counts.unwanted += len(read) - len(wanted)
        rows, frames = self._regular(wanted)
        if rows:
            await self.publish(rows, frames)

    def _regular(self, read: list[tuple[bytes, StreamedCandle]]) -> tuple[list[Kline], list[bytes]]:
        """Convert regular candles to rows, which streams accept; REST fetches the others again."""
        rows: list[Kline] = []
        frames: list[bytes] = []
        # Checked once for all candles: one call costs as much as half of the other checks.
        are_past = self.time.allows(max((candle.data.E for _, candle in read), default=0))
        for frame, candle in read:
            event = candle.data
            flaw = flaw_of(candle)
            if flaw is None and not are_past and not self.time.allows(event.E):
                flaw = Flaw.FUTURE
            if flaw is None:
                kline = event.as_kline(self.venue)
                # Before the writer has it: where it has no room it reopens what was closed here.
                self.state.accept(candle.stream, kline)
                rows.append(kline)
                frames.append(frame)
            else:
                self._count_bad(flaw, msgspec.json.encode(candle))
        return rows, frames

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
    """Log the 1st, 2nd, 4th, 8th, ...: enough to be seen, too few to flood the log."""
    return count.bit_count() == 1
