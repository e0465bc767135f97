"""Wanted and carried streams always meet again."""

from __future__ import annotations

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from klineagent.kline import Kline
from klineagent.market.roster import Request, Roster, Stream
from tests.klines import a_kline

NAMES = ["a", "b", "c", "d"]


def _ignore(_: Kline) -> None:
    pass


class Feeding(RuleBasedStateMachine):
    """A roster against an exchange that does what it acknowledges, and loses connections."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.streams: dict[str, Stream] = {}
        self.exchange_sends: set[str] = set()
        self.under_way: Request | None = None

    @rule(name=st.sampled_from(NAMES))
    def want(self, name: str) -> None:
        if name not in self.streams:
            self.streams[name] = Stream(name, _ignore)
            self.roster.want(self.streams[name])

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        if self.streams.pop(name, None):
            self.roster.release(name)

    @precondition(lambda self: self.under_way is None)
    @rule(most=st.integers(1, 3))
    def request(self, most: int) -> None:
        self.under_way = self.roster.next_request(most)
        if self.under_way:
            assert len(self.under_way.names) <= most

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def acknowledge(self) -> None:
        assert self.under_way is not None
        if self.under_way.subscribe:
            self.exchange_sends.update(self.under_way.names)
        else:
            self.exchange_sends.difference_update(self.under_way.names)
        self.roster.confirm(self.under_way)
        self.under_way = None

    @rule()
    def lose_feed(self) -> None:
        self.exchange_sends.clear()
        self.under_way = None
        self.roster.lose_feed()

    @invariant()
    def confirmed_means_sent_unless_it_is_being_ended(self) -> None:
        ending = set() if self.under_way is None else set(self.under_way.names)
        for name, stream in self.streams.items():
            if stream.confirmed.is_set():
                assert name in self.exchange_sends - ending
            assert (name in self.roster) or name not in self.exchange_sends

    @invariant()
    def what_the_exchange_may_send_is_counted(self) -> None:
        coming = set(self.under_way.names) if self.under_way and self.under_way.subscribe else set()
        assert len(self.roster) == len(self.exchange_sends | coming | set(self.streams))

    @invariant()
    def there_is_work_while_the_sets_differ(self) -> None:
        if self.exchange_sends != set(self.streams) and self.under_way is None:
            assert self.roster.work.is_set()

    def teardown(self) -> None:
        """However it went, asking until there is nothing to ask makes the two sets equal."""
        while self.under_way is not None or self.roster.work.is_set():
            if self.under_way is None:
                self.under_way = self.roster.next_request(2)
            if self.under_way is not None:
                self.acknowledge()
        assert self.exchange_sends == set(self.streams)
        assert all(stream.confirmed.is_set() for stream in self.streams.values())


TestFeeding = Feeding.TestCase
TestFeeding.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_requests_are_filled_to_the_limit_and_go_one_way() -> None:
    """Names that change together leave in one message, up to as many as it may hold."""
    roster = Roster()
    for name in NAMES:
        roster.want(Stream(name, _ignore))
    assert roster.next_request(3) == Request(True, ("a", "b", "c"))


def test_a_stream_cannot_be_wanted_twice() -> None:
    """Two owners of one stream would end each other's."""
    roster = Roster()
    roster.want(Stream("a", _ignore))
    with pytest.raises(ValueError, match="a is wanted already"):
        roster.want(Stream("a", _ignore))


def test_klines_of_streams_nobody_wants_are_not_accepted() -> None:
    """What arrives after a release is told apart."""
    seen: list[Kline] = []
    roster = Roster()
    roster.want(Stream("a", seen.append))
    assert roster.accept("a", a_kline())
    roster.release("a")
    assert not roster.accept("a", a_kline())
    assert seen == [a_kline()]


async def test_gone_waits_for_the_exchange() -> None:
    """A released stream is gone once its UNSUBSCRIBE is acknowledged, not before."""
    roster = Roster()
    roster.want(Stream("a", _ignore))
    subscribe = roster.next_request(1)
    assert subscribe is not None
    roster.confirm(subscribe)
    roster.release("a")
    with trio.move_on_after(0) as too_early:
        await roster.gone("a")
    assert too_early.cancelled_caught
    unsubscribe = roster.next_request(1)
    assert unsubscribe == Request(False, ("a",))
    roster.confirm(unsubscribe)
    await roster.gone("a")
