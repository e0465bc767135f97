"""Which stream lives on which feed; opens feeds, replaces broken ones, retires idle ones."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import NoReturn

import httpx2
import structlog
import trio
from attrs import define, field

from klineagent.core.kline import Kline
from klineagent.core.retry import Backoff
from klineagent.exchange.budget import Pace
from klineagent.exchange.clock.clock import ExchangeTime
from klineagent.exchange.network import Network
from klineagent.exchange.stream.connection import Feed
from klineagent.exchange.stream.dispatcher import FrameCounts
from klineagent.exchange.stream.slot import FeedCounts, Succession
from klineagent.exchange.stream.subscriptions import Accept, Roster, Stream
from klineagent.exchange.venues import (
    DIAL_WINDOW_S,
    DIALS_PER_WINDOW,
    FEED_AGES_S,
    STREAMS_PER_FEED,
    Venue,
)

# A thousand streams are asked for in a second; a quiet market may say nothing for a minute.
TAKE_OVER_WITHIN_S = 60.0
TAKE_OVER_AGAIN_AFTER_S = 30.0
# Longer than an event is under way on either feed.
OVERLAP_S = 5.0
METERED_EVERY_S = 30.0
# A feed that does not deliver is given so long at first, and at the most.
FAILING_AGE_S = 60.0
MOST_FAILING_AGE_S = 3600.0

log = structlog.get_logger()


@define(eq=False, kw_only=True)
class Pool:
    """All streams of one venue, spread over as few feeds as its limits allow."""

    network: Network
    venue: Venue
    url: httpx2.URL
    """The `/stream` endpoint."""
    time: ExchangeTime
    conflate_s: float
    """How often the newest states of forming candles are handed on; 0 for every one."""
    _klines: trio.MemorySendChannel[list[Kline]]
    _nursery: trio.Nursery
    counts: FrameCounts = field(factory=FrameCounts, init=False)
    feed_counts: FeedCounts = field(factory=FeedCounts, init=False)
    successions: list[Succession] = field(factory=list, init=False)
    """The connections there are, or are being made, and those before them."""
    dials: Pace = field(factory=lambda: Pace(DIALS_PER_WINDOW, DIAL_WINDOW_S), init=False)
    """Connections that were made, or tried."""
    _numbers: count[int] = field(factory=lambda: count(1), init=False)
    _handing_on: trio.Lock = field(factory=trio.Lock, init=False)

    @contextmanager
    def stream(self, name: str, accept: Accept, carried: Callable[[], None]) -> Iterator[Stream]:
        """Hold stream `name` as long as the block lasts, over as many connections as it takes.

        Entering and leaving do not wait: `carried` is called when the exchange has acknowledged it,
        each time anew, and `gone` tells when it has stopped. Klines go to `accept` and on to the
        channel.
        """
        roster = self._roster_for(name)
        stream = Stream(name, accept, carried)
        roster.want(stream)
        try:
            yield stream
        finally:
            roster.release(name)

    def miss(self, name: str) -> None:
        """Stream `name`, which is held, did not tell of a candle that was traded."""
        for each in self.successions:
            if each.roster.wants(name):
                each.roster.miss(name)

    async def gone(self, name: str) -> None:
        """Wait until the exchange no longer sends stream `name`; the caller sets the deadline."""
        for each in list(self.successions):
            await each.roster.gone(name)

    @property
    def heard_at(self) -> float:
        """When klines last came over any connection; minus infinity if none ever did."""
        return max((each.heard_at for each in self.successions), default=-math.inf)

    async def keep_rates(self) -> NoReturn:
        """Read the feeds' meters now and then."""
        while True:
            await trio.sleep(METERED_EVERY_S)
            for succession in self.successions:
                for feed in succession.feeds:
                    feed.meter.read(feed.inbox.received)

    def _roster_for(self, name: str) -> Roster:
        # One that still carries it (its UNSUBSCRIBE is under way) comes first: on another feed
        # the stream would arrive twice.
        rosters = [each.roster for each in self.successions]
        for roster in rosters:
            if name in roster:
                return roster
        for roster in rosters:
            if len(roster) < STREAMS_PER_FEED:
                return roster
        succession = Succession(Roster(), self.feed_counts, next(self._numbers))
        self.successions.append(succession)
        self._nursery.start_soon(self._keep_fed, succession)
        return succession.roster

    async def _keep_fed(self, succession: Succession) -> None:
        """Give a roster one feed after another as long as it wants any stream."""
        roster = succession.roster
        backoff = Backoff(first_s=0.5)
        while roster.wanted:
            await self.dials.turn()
            last = await self._serve(succession)
            if last.reason is not None:
                succession.lose(last.reason)
                wait_s = backoff.after(trio.current_time() - last.opened_at)
                log.warning(
                    "feed_lost",
                    reason=last.reason,
                    streams=roster.wanted,
                    retry_in_s=round(wait_s, 1),
                )
                if roster.wanted:
                    await trio.sleep(wait_s)
        # Nothing is awaited between the last look at `wanted` and here: no stream can slip in.
        self.successions.remove(succession)
        log.info("feed_retired", feeds=len(self.successions))

    async def _serve(self, succession: Succession) -> Feed:
        """Let feeds take over from each other until one ends on its own; return that."""
        async with trio.open_nursery() as nursery:
            feed = self._start(nursery, succession)
            patience = _Patience()
            await _due(feed, patience)
            while not feed.ended.is_set():
                reason = feed.line.reason or "its day is nearly over"
                log.info("feed_replaced", reason=reason, streams=succession.roster.wanted)
                await self.dials.turn()
                successor = self._start(nursery, succession)
                if await _has_taken_over(successor, feed):
                    succession.replace()
                    feed.scope.cancel(reason="another feed has taken over")
                    feed = successor
                else:
                    successor.scope.cancel(reason="it delivers nothing")
                    await _ended_within(feed, TAKE_OVER_AGAIN_AFTER_S)
                await _due(feed, patience)
        return feed

    def _start(self, nursery: trio.Nursery, succession: Succession) -> Feed:
        feed = Feed(
            network=self.network,
            venue=self.venue,
            url=self.url,
            line=succession.roster.open_line(),
            time=self.time,
            klines=self._klines,
            counts=self.counts,
            conflate_s=self.conflate_s,
            handing_on=self._handing_on,
            # Not all at once: each draws the age at which it is replaced.
            lifetime_s=random.uniform(*FEED_AGES_S),  # noqa: S311 - no secret
        )
        nursery.start_soon(succession.carry, feed)
        return feed


async def _due(feed: Feed, patience: _Patience) -> None:
    """Wait until `feed` has to be replaced, or has ended."""
    with trio.move_on_at(feed.opened_at + feed.lifetime_s):
        await feed.line.due.wait()
    if feed.line.is_failing:
        await _ended_within(feed, patience.next_s(feed))


async def _has_taken_over(successor: Feed, feed: Feed) -> bool:
    """Wait until `successor` carries what `feed` does, and delivers; tell whether it does.

    In a market where neither delivers anything, having been acknowledged must do.
    """
    received = feed.inbox.received
    with trio.move_on_after(TAKE_OVER_WITHIN_S):
        await successor.line.fulfilled.wait()
        await successor.inbox.delivered.wait()
        # What one of them was about to send when the other was complete comes on both.
        await _ended_within(successor, OVERLAP_S)
    if successor.ended.is_set() or not successor.line.fulfilled.is_set():
        return False
    return successor.inbox.delivered.is_set() or feed.inbox.received == received


async def _ended_within(feed: Feed, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await feed.ended.wait()


@define
class _Patience:
    """How old a feed that does not deliver must get before another is tried.

    It doubles as long as the next one is no better: that may be the exchange's fault, or ours, and
    dials are scarce. Meanwhile candles are fetched.
    """

    _least_age_s: float = FAILING_AGE_S

    def next_s(self, feed: Feed) -> float:
        """How long `feed` has to go on."""
        age_s = trio.current_time() - feed.opened_at
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
    klines: trio.MemorySendChannel[list[Kline]],
    conflate_s: float,
) -> AsyncIterator[Pool]:
    """A pool for `venue` at `ws_url`; leaving the block closes every feed."""
    async with trio.open_nursery() as nursery:
        pool = Pool(
            network=network,
            venue=venue,
            url=httpx2.URL(f"{ws_url}/stream"),
            time=time,
            klines=klines,
            conflate_s=conflate_s,
            nursery=nursery,
        )
        nursery.start_soon(pool.keep_rates)
        yield pool
        nursery.cancel_scope.cancel(reason="the pool is closed")
