"""Desired against acknowledged streams of a connection, and the requests between them. No I/O.

Batches the desired streams into SUBSCRIBE and UNSUBSCRIBE requests of many names. The two sets may
differ at any moment (a stream is added while a request is under way, a connection is replaced), so
each response is compared with what is desired by then, until both sets agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import trio
from attrs import define, field, frozen

from klineagent.core.kline import Kline

Accept = Callable[[Kline], None]
"""A function that is called with klines after they were handed on: with every closed one."""

# A connection that misses so many candles without any event since is bad: it is dead, or
# the exchange acknowledged subscriptions that it does not serve.
MISSES_OF_A_BAD_CONNECTION = 3


@define(eq=False)
class Stream:
    """One desired stream; leaving a block with it releases it."""

    name: str
    accept: Accept
    carried: Callable[[], None]
    """The function to call whenever a connection begins to carry the stream and none did."""
    is_carried: bool = field(default=False, init=False)
    """Whether the exchange has acknowledged the stream on a connection that is open."""
    losses: int = field(default=0, init=False)
    """How often the stream was carried and then was not."""
    misses: int = field(default=0, init=False)
    """Traded candles that it did not deliver since its last event."""
    _stream_set: StreamSet | None = field(default=None, init=False)
    """The set that wants it."""

    # Not a generator: each of 33,000 would hold half a kilobyte.
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream_set is not None:
            self._stream_set.release(self.name)

    def wanted_by(self, stream_set: StreamSet) -> None:
        """Note which set wants the stream."""
        self._stream_set = stream_set

    def confirm(self) -> None:
        """Note that a connection carries the stream."""
        if not self.is_carried:
            self.is_carried = True
            self.carried()

    def drop(self) -> None:
        """Note that no connection carries the stream any more."""
        if self.is_carried:
            self.is_carried = False
            self.losses += 1


@frozen
class SubscriptionRequest:
    """The names that one SUBSCRIBE or UNSUBSCRIBE message holds."""

    subscribe: bool
    names: tuple[str, ...]


class StreamSet:
    """The streams that one connection carries, or two while one takes over from the other."""

    def __init__(self) -> None:
        self._wanted: dict[str, Stream] = {}
        self._states: list[ConnectionState] = []
        # Not wanted, but carried or about to be: they count until the exchange has stopped them.
        self._ending: dict[str, trio.Event] = {}

    def __repr__(self) -> str:
        return f"<StreamSet {len(self._wanted)} wanted, {len(self._states)} connections>"

    def __contains__(self, name: str) -> bool:
        return name in self._wanted or name in self._ending

    def __len__(self) -> int:
        """The number of streams that count against the venue's limit: wanted or still carried."""
        return len(self._wanted) + len(self._ending)

    @property
    def wanted(self) -> int:
        """The number of wanted streams."""
        return len(self._wanted)

    def wants(self, name: str) -> bool:
        """Whether stream `name` is wanted."""
        return name in self._wanted

    def want(self, stream: Stream) -> None:
        """Want `stream`; it is confirmed when a connection carries it.

        Raises:
            ValueError: a stream of that name is wanted already.
        """
        name = stream.name
        if name in self._wanted:
            raise ValueError(f"{name} is wanted already")
        self._wanted[name] = stream
        stream.wanted_by(self)
        self._mark_gone(name)
        for state in self._states:
            # If its UNSUBSCRIBE is under way already, a SUBSCRIBE follows.
            if state.carries(name) and not state.is_asking(name, subscribe=False):
                stream.confirm()
            state.reconsider(name)

    def release(self, name: str) -> None:
        """Stop wanting `name`."""
        del self._wanted[name]
        if any(
            state.carries(name) or state.is_asking(name, subscribe=True) for state in self._states
        ):
            self._ending[name] = trio.Event()
        for state in self._states:
            state.reconsider(name)

    async def gone(self, name: str) -> None:
        """Wait until the exchange no longer sends `name`, or it is wanted again."""
        if (gone := self._ending.get(name)) is not None:
            await gone.wait()

    @property
    def streams(self) -> Mapping[str, Stream]:
        """The wanted streams by name; a live view."""
        return self._wanted

    def accept(self, name: str, kline: Kline) -> None:
        """Pass `kline` to the stream called `name`, if it is wanted."""
        if (stream := self._wanted.get(name)) is not None:
            stream.misses = 0
            stream.accept(kline)

    def miss(self, name: str) -> None:
        """Note that stream `name` did not deliver a candle that was traded."""
        self._wanted[name].misses += 1
        misses = sum(stream.misses for stream in self._wanted.values())
        if misses >= MISSES_OF_A_BAD_CONNECTION:
            for state in self._states:
                state.request_replacement(f"{misses} candles were not delivered", is_failing=True)

    def add_connection(self) -> ConnectionState:
        """Return the state of a new connection, which has all wanted streams still to request."""
        state = ConnectionState(self, self._wanted)
        self._states.append(state)
        self._reset_misses()
        return state

    def remove(self, state: ConnectionState) -> None:
        """Remove the connection of `state`, which has ended."""
        self._states.remove(state)
        self._reset_misses()
        for name, stream in self._wanted.items():
            if not any(each.carries(name) for each in self._states):
                stream.drop()
        for name in list(self._ending):
            self._mark_gone_unless_carried(name)

    def acknowledged(self, request: SubscriptionRequest) -> None:
        """Note that the exchange has acknowledged `request` on one of the connections."""
        for name in request.names:
            if not request.subscribe:
                self._mark_gone_unless_carried(name)
            elif name in self._wanted:
                self._wanted[name].confirm()

    def _reset_misses(self) -> None:
        for stream in self._wanted.values():
            stream.misses = 0

    def _mark_gone_unless_carried(self, name: str) -> None:
        if not any(
            state.carries(name) or state.is_asking(name, subscribe=True) for state in self._states
        ):
            self._mark_gone(name)

    def _mark_gone(self, name: str) -> None:
        if (gone := self._ending.pop(name, None)) is not None:
            gone.set()


class ConnectionState:
    """Tracks what one connection of a stream set carries, and the requests it still has to make.

    One request is under way at a time: `next_request`, then `confirm` or `close`.
    """

    def __init__(self, stream_set: StreamSet, wanted: dict[str, Stream]) -> None:
        self._stream_set = stream_set
        self._carried: set[str] = set()
        self._changed: dict[str, None] = dict.fromkeys(wanted)  # an ordered set, the oldest first
        self._under_way: SubscriptionRequest | None = None
        self.work = trio.Event()
        """Set while there may be a request to make; replaced by a new event when there is none."""
        self.work.set()
        self.fulfilled = trio.Event()
        """Set once all wanted streams were acknowledged, or the connection has ended."""
        self.replacement_due = trio.Event()
        """Set when another connection should take over, or this one has ended."""
        self.reason = ""
        """Why another connection should take over."""
        self.is_failing = False
        """Whether the reason is that the connection delivers too few candles."""

    def __repr__(self) -> str:
        return f"<ConnectionState {len(self._carried)} carried, {len(self._changed)} to ask for>"

    @property
    def wanted(self) -> int:
        """The number of streams that the connection should carry."""
        return self._stream_set.wanted

    @property
    def carried(self) -> int:
        """The number of streams that the exchange has acknowledged on this connection."""
        return len(self._carried)

    def request_replacement(self, reason: str, *, is_failing: bool = False) -> None:
        """Ask for another connection in place of this one."""
        if not self.replacement_due.is_set():
            self.reason, self.is_failing = reason, is_failing
            self.replacement_due.set()

    def close(self) -> None:
        """Note that the connection has ended."""
        self._stream_set.remove(self)
        self.replacement_due.set()
        self.fulfilled.set()

    def carries(self, name: str) -> bool:
        """Whether the exchange has acknowledged `name` on this connection."""
        return name in self._carried

    def is_asking(self, name: str, *, subscribe: bool) -> bool:
        """Whether a request of this kind that holds `name` is under way."""
        request = self._under_way
        return request is not None and request.subscribe == subscribe and name in request.names

    @property
    def streams(self) -> Mapping[str, Stream]:
        """See `StreamSet.streams`."""
        return self._stream_set.streams

    def accept(self, name: str, kline: Kline) -> None:
        """See `StreamSet.accept`."""
        self._stream_set.accept(name, kline)

    def reconsider(self, name: str) -> None:
        """Compare `name` anew with what is carried: whether it is wanted may have changed."""
        self._changed[name] = None
        self.work.set()

    def next_request(self, most_names: int) -> SubscriptionRequest | None:
        """Return the next request of at most `most_names` names; None if there is nothing to do."""
        subscribe: bool | None = None
        names: list[str] = []
        for name in list(self._changed):
            wanted = self._stream_set.wants(name)
            if wanted == self.carries(name):
                del self._changed[name]
                continue
            if subscribe is None:
                subscribe = wanted
            if wanted == subscribe:
                del self._changed[name]
                names.append(name)
                if len(names) == most_names:
                    break
        if subscribe is None:
            self._changed = {}  # its room for a thousand names
            self.work = trio.Event()
            self.fulfilled.set()
            return None
        self._under_way = SubscriptionRequest(subscribe, tuple(names))
        return self._under_way

    def confirm(self, request: SubscriptionRequest) -> None:
        """Note that the exchange has acknowledged `request`."""
        self._under_way = None
        for name in request.names:
            if request.subscribe:
                self._carried.add(name)
            else:
                self._carried.discard(name)
            self._changed[name] = None
        self._stream_set.acknowledged(request)
        self.work.set()
