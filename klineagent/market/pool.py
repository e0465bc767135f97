"""Which stream lives on which feed; opens feeds, replaces broken ones, retires idle ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2
import structlog
import trio
from attrs import define, field

from klineagent.backoff import Backoff
from klineagent.kline import Kline
from klineagent.market.budget import Pace
from klineagent.market.feed import Feed, FrameCounts
from klineagent.market.roster import Accept, Roster, Stream
from klineagent.market.transport import Network
from klineagent.market.venues import DIAL_WINDOW_S, DIALS_PER_WINDOW, STREAMS_PER_FEED, Venue

log = structlog.get_logger()


@define(eq=False, kw_only=True)
class Pool:
    """All streams of one venue, spread over as few feeds as its limits allow."""

    network: Network
    venue: Venue
    url: httpx2.URL
    """The `/stream` endpoint."""
    _klines: trio.MemorySendChannel[list[Kline]]
    _nursery: trio.Nursery
    counts: FrameCounts = field(factory=FrameCounts, init=False)
    _rosters: list[Roster] = field(factory=list, init=False)
    _dials: Pace = field(factory=lambda: Pace(DIALS_PER_WINDOW, DIAL_WINDOW_S), init=False)

    @contextmanager
    def stream(self, name: str, accept: Accept) -> Iterator[Stream]:
        """Hold stream `name` as long as the block lasts, over as many connections as it takes.

        Entering and leaving do not wait: `confirmed` of the stream tells when the exchange has
        acknowledged it, `gone` when it has stopped. Klines go to `accept` and on to the channel.
        """
        roster = self._roster_for(name)
        stream = Stream(name, accept)
        roster.want(stream)
        try:
            yield stream
        finally:
            roster.release(name)

    async def gone(self, name: str) -> None:
        """Wait until the exchange no longer sends stream `name`; the caller sets the deadline."""
        for roster in list(self._rosters):
            await roster.gone(name)

    @property
    def feed_count(self) -> int:
        """How many connections there are, or are being made."""
        return len(self._rosters)

    def _roster_for(self, name: str) -> Roster:
        # One that still carries it (its UNSUBSCRIBE is under way) comes first: on another feed
        # the stream would arrive twice.
        for roster in self._rosters:
            if name in roster:
                return roster
        for roster in self._rosters:
            if len(roster) < STREAMS_PER_FEED:
                return roster
        roster = Roster()
        self._rosters.append(roster)
        self._nursery.start_soon(self._keep_fed, roster)
        return roster

    async def _keep_fed(self, roster: Roster) -> None:
        """Give `roster` one feed after another as long as it wants any stream."""
        backoff = Backoff(first_s=0.5)
        while roster.wanted:
            await self._dials.turn()
            feed = Feed(
                network=self.network,
                venue=self.venue,
                url=self.url,
                roster=roster,
                klines=self._klines,
                counts=self.counts,
            )
            dialled_at = trio.current_time()
            reason = await feed.run()
            if reason is not None:
                wait_s = backoff.after(trio.current_time() - dialled_at)
                log.warning(
                    "feed_lost", reason=reason, streams=roster.wanted, retry_in_s=round(wait_s, 1)
                )
                if roster.wanted:
                    await trio.sleep(wait_s)
        # Nothing is awaited between the last look at `wanted` and here: no stream can slip in.
        self._rosters.remove(roster)
        log.info("feed_retired", feeds=len(self._rosters))


@asynccontextmanager
async def open_pool(
    *, network: Network, venue: Venue, ws_url: str, klines: trio.MemorySendChannel[list[Kline]]
) -> AsyncIterator[Pool]:
    """A pool for `venue` at `ws_url`; leaving the block closes every feed."""
    async with trio.open_nursery() as nursery:
        yield Pool(
            network=network,
            venue=venue,
            url=httpx2.URL(f"{ws_url}/stream"),
            klines=klines,
            nursery=nursery,
        )
        nursery.cancel_scope.cancel(reason="the pool is closed")
