"""The feeds of one roster, one after another, and what became of them."""

from __future__ import annotations

import math

import trio
from attrs import define, field

from klineagent.exchange.stream.connection import Feed
from klineagent.exchange.stream.subscriptions import Roster


@define(eq=False)
class FeedCounts:
    """What became of all feeds so far."""

    dials: int = 0
    lost: int = 0
    """Ended on their own, so that another had to be dialled."""
    replaced: int = 0
    """Gave way to another that had taken over."""


@define(eq=False)
class Succession:
    """Who carries the streams of `roster`: one feed, or two while one takes over."""

    roster: Roster
    totals: FeedCounts
    """Of all successions."""
    number: int
    feeds: list[Feed] = field(factory=list, init=False)
    """Those that are there, or being dialled; the newest is last."""
    counts: FeedCounts = field(factory=FeedCounts, init=False)
    last_loss: str = field(default="", init=False)
    """Why the last feed was lost that was."""
    lost_at: float = field(default=math.nan, init=False)
    was_up: bool = field(default=False, init=False)
    """Whether there has ever been a connection that has ended since."""
    _down_since: float = field(factory=trio.current_time, init=False)
    """When the last connection ended; of no account while there is one."""
    _heard_at: float = field(default=-math.inf, init=False)
    """When a feed that has ended brought its last klines."""

    async def carry(self, feed: Feed) -> None:
        """Let `feed` run to its end."""
        self.feeds.append(feed)
        for counts in (self.counts, self.totals):
            counts.dials += 1
        try:
            await feed.run()
        finally:
            self.feeds.remove(feed)
            self._heard_at = max(self._heard_at, feed.inbox.heard_at)
            if feed.connected_at is not None and not self.is_up:
                self.was_up, self._down_since = True, trio.current_time()

    def lose(self, reason: str) -> None:
        """The last feed is gone, and not because another has taken over."""
        self.last_loss, self.lost_at = reason, trio.current_time()
        for counts in (self.counts, self.totals):
            counts.lost += 1

    def replace(self) -> None:
        """A feed has taken over from the one before it."""
        for counts in (self.counts, self.totals):
            counts.replaced += 1

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return any(feed.is_open for feed in self.feeds)

    @property
    def down_s(self) -> float:
        """How long there has been no connection; 0 while there is one."""
        return 0 if self.is_up else trio.current_time() - self._down_since

    @property
    def heard_at(self) -> float:
        """When klines last came; minus infinity if none ever did."""
        return max([self._heard_at, *(feed.inbox.heard_at for feed in self.feeds)])
