"""Assigns streams to connections; opens connections, replaces broken and retires idle ones."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import NoReturn

import httpx2
import structlog
import trio
from attrs import define, field

from klineagent.core.kline import Publish
from klineagent.core.retry import Backoff
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.network import Network
from klineagent.exchange.stream.connection import StreamConnection
from klineagent.exchange.stream.dispatcher import FormingTurns, FrameCounts
from klineagent.exchange.stream.rate_limit import RateLimiter
from klineagent.exchange.stream.slot import ConnectionCounts, ConnectionSlot
from klineagent.exchange.stream.stream_set import Accept, Stream, StreamSet
from klineagent.exchange.venues import (
    CONNECTION_AGES_S,
    DIAL_WINDOW_S,
    DIALS_PER_WINDOW,
    STREAMS_PER_CONNECTION,
    Venue,
)

# A thousand streams are requested within a second; a quiet market may be silent for a minute.
TAKE_OVER_WITHIN_S = 60.0
TAKE_OVER_AGAIN_AFTER_S = 30.0
# Longer than an event takes on either connection.
OVERLAP_S = 5.0
METERED_EVERY_S = 30.0
# How old a connection that does not deliver may get before another is tried: at first, and at most.
FAILING_AGE_S = 60.0
MOST_FAILING_AGE_S = 3600.0

log = structlog.get_logger()


@define(eq=False, kw_only=True)
class Pool:
    """Carries all streams of one venue over as few connections as its limits allow."""

    network: Network
    venue: Venue
    url: httpx2.URL
    """The `/stream` endpoint."""
    time: ExchangeTime
    conflate_s: float
    """Seconds between two states of a forming candle that are handed on; 0 hands on all."""
    turns: FormingTurns
    _publish: Publish
    _nursery: trio.Nursery
    counts: FrameCounts = field(factory=FrameCounts, init=False)
    connection_counts: ConnectionCounts = field(factory=ConnectionCounts, init=False)
    slots: list[ConnectionSlot] = field(factory=list, init=False)
    """One slot for each stream set, in the order in which they were opened."""
    dials: RateLimiter = field(
        factory=lambda: RateLimiter(DIALS_PER_WINDOW, DIAL_WINDOW_S), init=False
    )
    """Limits the dials, failed ones included."""
    _numbers: count[int] = field(factory=lambda: count(1), init=False)

    def stream(self, name: str, accept: Accept, carried: Callable[[], None]) -> Stream:
        """Want stream `name` until the end of the block, over any number of connections.

        Entering and leaving do not wait. `carried` is called each time the exchange has
        acknowledged the stream; `gone` waits until the exchange has stopped it. Klines are sent to
        the channel and then passed to `accept`.
        """
        stream = Stream(name, accept, carried)
        self._stream_set_for(name).want(stream)
        return stream

    def miss(self, name: str) -> None:
        """Note that stream `name` did not deliver a candle that was traded."""
        for each in self.slots:
            if each.stream_set.wants(name):
                each.stream_set.miss(name)

    async def gone(self, name: str) -> None:
        """Wait until the exchange no longer sends stream `name`; the caller sets the deadline."""
        for each in list(self.slots):
            await each.stream_set.gone(name)

    @property
    def last_kline_at(self) -> float:
        """When klines last arrived over any connection; minus infinity if none ever did."""
        return max((each.last_kline_at for each in self.slots), default=-math.inf)

    async def keep_rates(self) -> NoReturn:
        """Read the meters of all connections every `METERED_EVERY_S` seconds."""
        while True:
            await trio.sleep(METERED_EVERY_S)
            for slot in self.slots:
                for connection in slot.connections:
                    connection.meter.read(connection.dispatcher.received)

    def _stream_set_for(self, name: str) -> StreamSet:
        # A set that still carries it (its UNSUBSCRIBE is under way) comes first: on a second
        # connection the stream would arrive twice.
        stream_sets = [each.stream_set for each in self.slots]
        for stream_set in stream_sets:
            if name in stream_set:
                return stream_set
        for stream_set in stream_sets:
            if len(stream_set) < STREAMS_PER_CONNECTION:
                return stream_set
        slot = ConnectionSlot(StreamSet(), self.connection_counts, next(self._numbers))
        self.slots.append(slot)
        self._nursery.start_soon(self._keep_fed, slot)
        return slot.stream_set

    async def _keep_fed(self, slot: ConnectionSlot) -> None:
        """Keep the stream set of `slot` connected as long as it wants any stream."""
        stream_set = slot.stream_set
        backoff = Backoff(first_s=0.5)
        while stream_set.wanted:
            await self.dials.turn()
            last = await self._serve(slot)
            if last.reason is not None:
                slot.count_loss(last.reason)
                wait_s = backoff.after(trio.current_time() - last.opened_at)
                log.warning(
                    "feed_lost",
                    reason=last.reason,
                    streams=stream_set.wanted,
                    retry_in_s=round(wait_s, 1),
                )
                if stream_set.wanted:
                    await trio.sleep(wait_s)
        # Nothing is awaited since `wanted` was last read, so no stream can have been added.
        self.slots.remove(slot)
        log.info("feed_retired", feeds=len(self.slots))

    async def _serve(self, slot: ConnectionSlot) -> StreamConnection:
        """Replace connections by new ones until one ends on its own, and return that one."""
        async with trio.open_nursery() as nursery:
            connection = self._start(nursery, slot)
            patience = _Patience()
            await _due(connection, patience)
            while not connection.ended.is_set():
                reason = connection.state.reason or "it nears the 24 hours that the exchange allows"
                log.info("feed_replaced", reason=reason, streams=slot.stream_set.wanted)
                await self.dials.turn()
                successor = self._start(nursery, slot)
                if await _has_taken_over(successor, connection):
                    slot.count_replacement()
                    connection.scope.cancel(reason="another connection has taken over")
                    connection = successor
                else:
                    successor.scope.cancel(reason="it delivers nothing")
                    await _ended_within(connection, TAKE_OVER_AGAIN_AFTER_S)
                await _due(connection, patience)
        return connection

    def _start(self, nursery: trio.Nursery, slot: ConnectionSlot) -> StreamConnection:
        connection = StreamConnection(
            network=self.network,
            venue=self.venue,
            url=self.url,
            state=slot.stream_set.add_connection(),
            time=self.time,
            publish=self._publish,
            counts=self.counts,
            conflate_s=self.conflate_s,
            turns=self.turns,
            # Each connection draws its own age, so that they are not all replaced at once.
            lifetime_s=random.uniform(*CONNECTION_AGES_S),  # noqa: S311 - no secret
        )
        nursery.start_soon(slot.carry, connection)
        return connection


async def _due(connection: StreamConnection, patience: _Patience) -> None:
    """Wait until `connection` should be replaced, or has ended."""
    with trio.move_on_at(connection.opened_at + connection.lifetime_s):
        await connection.state.replacement_due.wait()
    if connection.state.is_failing:
        await _ended_within(connection, patience.next_s(connection))


async def _has_taken_over(successor: StreamConnection, connection: StreamConnection) -> bool:
    """Wait until `successor` carries and delivers what `connection` does; return whether it does.

    Where neither delivers anything, acknowledged subscriptions are enough.
    """
    received = connection.dispatcher.received
    with trio.move_on_after(TAKE_OVER_WITHIN_S):
        await successor.state.fulfilled.wait()
        await successor.dispatcher.delivered.wait()
        # Both connections run for a while, so that no event is lost between them.
        await _ended_within(successor, OVERLAP_S)
    if successor.ended.is_set() or not successor.state.fulfilled.is_set():
        return False
    return successor.dispatcher.delivered.is_set() or connection.dispatcher.received == received


async def _ended_within(connection: StreamConnection, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await connection.ended.wait()


@define
class _Patience:
    """Decides how old a connection that does not deliver must get before another is tried.

    The age doubles as long as the next connection is no better: the fault may be the exchange's or
    ours, and dials are scarce. Candles are fetched by REST meanwhile.
    """

    _least_age_s: float = FAILING_AGE_S

    def next_s(self, connection: StreamConnection) -> float:
        """Return for how many seconds `connection` goes on."""
        age_s = trio.current_time() - connection.opened_at
        if age_s > MOST_FAILING_AGE_S:
            self._least_age_s = FAILING_AGE_S
        left_s = max(0.0, self._least_age_s - age_s)
        self._least_age_s = min(2 * self._least_age_s, MOST_FAILING_AGE_S)
        return left_s


@asynccontextmanager
async def open_pool(
    *,
    network: Network,
    venue: Venue,
    ws_url: str,
    time: ExchangeTime,
    publish: Publish,
    conflate_s: float,
    turns: FormingTurns | None = None,
) -> AsyncIterator[Pool]:
    """Open a pool for `venue` at `ws_url`; leaving the block closes every connection.

    Pools of one process share `turns`.
    """
    async with trio.open_nursery() as nursery:
        pool = Pool(
            network=network,
            venue=venue,
            url=httpx2.URL(f"{ws_url}/stream"),
            time=time,
            publish=publish,
            conflate_s=conflate_s,
            turns=turns or FormingTurns(),
            nursery=nursery,
        )
        nursery.start_soon(pool.keep_rates)
        yield pool
        nursery.cancel_scope.cancel(reason="the pool is closed")
