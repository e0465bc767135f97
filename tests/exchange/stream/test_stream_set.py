"""Wanted and carried streams become equal again after any change."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from klineagent.core.kline import Kline
from klineagent.exchange.stream.stream_set import (
    MISSES_OF_A_BAD_CONNECTION,
    ConnectionState,
    Stream,
    StreamSet,
    SubscriptionRequest,
)
from tests.klines import a_kline

NAMES = ["a", "b", "c", "d"]


def _ignore(_: Kline) -> None:
    pass


def _nothing() -> None:
    pass


@define(eq=False)
class Connection:
    """The exchange's end of a connection: the streams that it sends, and the open request."""

    state: ConnectionState
    sends: set[str] = field(factory=set)
    request: SubscriptionRequest | None = None

    def ask(self, most: int) -> None:
        if self.request is None:
            self.request = self.state.next_request(most)
            assert self.request is None or len(self.request.names) <= most

    def acknowledge(self) -> None:
        if (request := self.request) is None:
            return
        if request.subscribe:
            self.sends.update(request.names)
        else:
            self.sends.difference_update(request.names)
        self.request = None
        self.state.confirm(request)

    def is_asked(self, name: str, *, subscribe: bool) -> bool:
        request = self.request
        return request is not None and request.subscribe == subscribe and name in request.names


class Feeding(RuleBasedStateMachine):
    """A stream set against an exchange that does what it acknowledges, and loses connections.

    There is one connection, or a second one that takes over from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream_set = StreamSet()
        self.streams: dict[str, Stream] = {}
        self.connections: list[Connection] = []

    @rule(name=st.sampled_from(NAMES))
    def want(self, name: str) -> None:
        if name not in self.streams:
            self.streams[name] = Stream(name, _ignore, _nothing)
            self.stream_set.want(self.streams[name])

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        if self.streams.pop(name, None):
            self.stream_set.release(name)

    @precondition(lambda self: len(self.connections) < 2)
    @rule()
    def connect(self) -> None:
        self.connections.append(Connection(self.stream_set.add_connection()))

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), most=st.integers(1, 3))
    def request(self, data: st.DataObject, most: int) -> None:
        data.draw(st.sampled_from(self.connections)).ask(most)

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.connections)).acknowledge()

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.connections))
        self.connections.remove(connection)
        connection.state.close()
        assert connection.state.replacement_due.is_set()
        assert connection.state.fulfilled.is_set()

    @invariant()
    def confirmed_means_sent_unless_it_is_being_ended(self) -> None:
        for name, stream in self.streams.items():
            if stream.is_carried:
                assert any(name in connection.sends for connection in self.connections)

    @invariant()
    def what_the_exchange_may_send_is_counted(self) -> None:
        coming = {
            name
            for connection in self.connections
            for name in NAMES
            if name in connection.sends or connection.is_asked(name, subscribe=True)
        }
        assert len(self.stream_set) == len(coming | set(self.streams))
        assert all(name in self.stream_set for name in coming)

    @invariant()
    def there_is_work_while_the_sets_differ(self) -> None:
        for connection in self.connections:
            if connection.sends != set(self.streams) and connection.request is None:
                assert connection.state.work.is_set()

    def teardown(self) -> None:
        """After any history, making requests until there is none makes both sets equal."""
        for connection in self.connections:
            while connection.request is not None or connection.state.work.is_set():
                connection.ask(2)
                connection.acknowledge()
            assert connection.sends == set(self.streams)
            assert connection.state.fulfilled.is_set()
        if self.connections:
            assert all(stream.is_carried for stream in self.streams.values())


TestFeeding = Feeding.TestCase
TestFeeding.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_requests_are_filled_to_the_limit_and_of_one_kind() -> None:
    """Names that change together go in one message, up to the limit."""
    stream_set = StreamSet()
    for name in NAMES:
        stream_set.want(Stream(name, _ignore, _nothing))
    assert stream_set.add_connection().next_request(3) == SubscriptionRequest(True, ("a", "b", "c"))


def test_a_stream_cannot_be_wanted_twice() -> None:
    """Two owners of one stream would end each other's subscription."""
    stream_set = StreamSet()
    stream_set.want(Stream("a", _ignore, _nothing))
    with pytest.raises(ValueError, match="a is wanted already"):
        stream_set.want(Stream("a", _ignore, _nothing))


def test_klines_of_unwanted_streams_are_dropped() -> None:
    """They may arrive after a release."""
    seen: list[Kline] = []
    stream_set = StreamSet()
    stream_set.want(Stream("a", seen.append, _nothing))
    stream_set.accept("a", a_kline())
    stream_set.release("a")
    stream_set.accept("a", a_kline())
    assert seen == [a_kline()]


async def test_gone_waits_for_the_exchange() -> None:
    """A released stream is gone once its UNSUBSCRIBE is acknowledged, not before."""
    stream_set = StreamSet()
    stream_set.want(Stream("a", _ignore, _nothing))
    state = stream_set.add_connection()
    subscribe = state.next_request(1)
    assert subscribe is not None
    state.confirm(subscribe)
    stream_set.release("a")
    with trio.move_on_after(0) as too_early:
        await stream_set.gone("a")
    assert too_early.cancelled_caught
    unsubscribe = state.next_request(1)
    assert unsubscribe == SubscriptionRequest(False, ("a",))
    state.confirm(unsubscribe)
    await stream_set.gone("a")


def _carrying(*names: str) -> tuple[StreamSet, ConnectionState]:
    stream_set = StreamSet()
    for name in names:
        stream_set.want(Stream(name, _ignore, _nothing))
    state = stream_set.add_connection()
    request = state.next_request(len(names))
    assert request is not None
    state.confirm(request)
    return stream_set, state


def test_a_connection_that_misses_many_candles_is_replaced() -> None:
    """Several misses, of one stream or of more, are no accident."""
    stream_set, state = _carrying("a", "b")
    for _ in range(MISSES_OF_A_BAD_CONNECTION - 1):
        stream_set.miss("a")
    assert not state.replacement_due.is_set()
    stream_set.miss("b")
    assert state.replacement_due.is_set()
    assert state.is_failing


def test_an_event_resets_the_misses_of_its_stream() -> None:
    """A closing event that is lost now and then does not end the connection."""
    stream_set, state = _carrying("a")
    for _ in range(10 * MISSES_OF_A_BAD_CONNECTION):
        stream_set.miss("a")
        stream_set.accept("a", a_kline())
    assert not state.replacement_due.is_set()


def test_a_stream_is_carried_while_one_connection_takes_over_from_another() -> None:
    """No loss is reported then."""
    calls: list[str] = []
    stream_set = StreamSet()
    stream = Stream("a", _ignore, partial(calls.append, "carried"))
    stream_set.want(stream)
    lines = [stream_set.add_connection(), stream_set.add_connection()]
    for state in lines:
        request = state.next_request(1)
        assert request is not None
        state.confirm(request)
    lines[0].close()
    assert (stream.is_carried, stream.losses) == (True, 0)
    assert calls == ["carried"]
    lines[1].close()
    assert (stream.is_carried, stream.losses) == (False, 1)
