"""What connections should carry against what they do carry. No I/O.

The exchange is told in requests of many names; this is where single wishes become requests. The
two sets may differ at any moment (a wish changes while a request is under way, a connection is
replaced); every answer is compared with what is wished by then, so they always meet again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio
from attrs import define, field, frozen

from klineagent.core.kline import Kline

Accept = Callable[[Kline], None]
"""Called, synchronously, with klines that are on their way to the store: every closed one."""

# A connection that misses so many candles without any event since is bad: it is dead, or
# the exchange acknowledged subscriptions that it does not serve.
MISSES_OF_A_BAD_CONNECTION = 3


@define(eq=False)
class Stream:
    """One stream somebody wants."""

    name: str
    accept: Accept
    carried: Callable[[], None]
    """Called, synchronously, whenever a connection has begun to carry it and none did before."""
    is_carried: bool = field(default=False, init=False)
    """Whether the exchange has acknowledged it on a connection that is there."""
    losses: int = field(default=0, init=False)
    """How often the last connection that carried it was lost."""
    misses: int = field(default=0, init=False)
    """Candles it did not tell of since it last said anything."""

    def confirm(self) -> None:
        """A connection carries it."""
        if not self.is_carried:
            self.is_carried = True
            self.carried()

    def drop(self) -> None:
        """No connection carries it any more."""
        if self.is_carried:
            self.is_carried = False
            self.losses += 1


@frozen
class SubscriptionRequest:
    """Names to be subscribed, or to be unsubscribed, in one message."""

    subscribe: bool
    names: tuple[str, ...]


class StreamSet:
    """The streams that one connection carries, or two while one takes over from the other."""

    def __init__(self) -> None:
        self._wanted: dict[str, Stream] = {}
        self._states: list[ConnectionState] = []
        # Not wanted, but carried or about to be: they count until the exchange has let them go.
        self._ending: dict[str, trio.Event] = {}

    def __repr__(self) -> str:
        return f"<StreamSet {len(self._wanted)} wanted, {len(self._states)} lines>"

    def __contains__(self, name: str) -> bool:
        return name in self._wanted or name in self._ending

    def __len__(self) -> int:
        """Streams that count against the venue's limit: wanted ones and those not yet gone."""
        return len(self._wanted) + len(self._ending)

    @property
    def wanted(self) -> int:
        """How many streams are wanted."""
        return len(self._wanted)

    def wants(self, name: str) -> bool:
        """Whether stream `name` is wanted."""
        return name in self._wanted

    def want(self, stream: Stream) -> None:
        """Ask for `stream`; it is told when a connection carries it."""
        name = stream.name
        if name in self._wanted:
            raise ValueError(f"{name} is wanted already")
        self._wanted[name] = stream
        self._let_go(name)
        for state in self._states:
            # Where its UNSUBSCRIBE is under way already, it is asked for again after that.
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
        """What is wanted, by name, at any moment."""
        return self._wanted

    def accept(self, name: str, kline: Kline) -> None:
        """Tell whoever wants stream `name`, if anybody does, of `kline`."""
        if (stream := self._wanted.get(name)) is not None:
            stream.misses = 0
            stream.accept(kline)

    def miss(self, name: str) -> None:
        """Stream `name` should have told of a candle and did not."""
        self._wanted[name].misses += 1
        misses = sum(stream.misses for stream in self._wanted.values())
        if misses >= MISSES_OF_A_BAD_CONNECTION:
            for state in self._states:
                state.request_replacement(f"{misses} candles were not told of", is_failing=True)

    def add_connection(self) -> ConnectionState:
        """What a new connection carries: nothing yet, and everything wanted must be asked for."""
        state = ConnectionState(self, self._wanted)
        self._states.append(state)
        self._forgive()
        return state

    def remove(self, state: ConnectionState) -> None:
        """The connection of `state` is gone."""
        self._states.remove(state)
        self._forgive()
        for name, stream in self._wanted.items():
            if not any(each.carries(name) for each in self._states):
                stream.drop()
        for name in list(self._ending):
            self._let_go_unless_carried(name)

    def acknowledged(self, request: SubscriptionRequest) -> None:
        """A state has been told that `request` is fulfilled."""
        for name in request.names:
            if not request.subscribe:
                self._let_go_unless_carried(name)
            elif name in self._wanted:
                self._wanted[name].confirm()

    def _forgive(self) -> None:
        for stream in self._wanted.values():
            stream.misses = 0

    def _let_go_unless_carried(self, name: str) -> None:
        if not any(
            state.carries(name) or state.is_asking(name, subscribe=True) for state in self._states
        ):
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        if (gone := self._ending.pop(name, None)) is not None:
            gone.set()


class ConnectionState:
    """What one connection of a stream set carries, and the requests it still has to make.

    One request is under way at a time: `next_request`, then `confirm` or `close`.
    """

    def __init__(self, stream_set: StreamSet, wanted: dict[str, Stream]) -> None:
        self._stream_set = stream_set
        self._carried: set[str] = set()
        self._changed: dict[str, None] = dict.fromkeys(wanted)  # an ordered set: oldest wish first
        self._under_way: SubscriptionRequest | None = None
        self.work = trio.Event()
        """Set while there may be a request to make; replaced when there is none."""
        self.work.set()
        self.fulfilled = trio.Event()
        """Set once everything wanted was asked for and acknowledged, or the state has ended."""
        self.replacement_due = trio.Event()
        """Set when another connection should take over, or the state has ended."""
        self.reason = ""
        """Why it should."""
        self.is_failing = False
        """Whether the reason is that it does not deliver."""

    def __repr__(self) -> str:
        return f"<ConnectionState {len(self._carried)} carried, {len(self._changed)} to ask for>"

    @property
    def wanted(self) -> int:
        """How many streams it should carry."""
        return self._stream_set.wanted

    @property
    def carried(self) -> int:
        """How many streams the exchange has acknowledged on this connection."""
        return len(self._carried)

    def request_replacement(self, reason: str, *, is_failing: bool = False) -> None:
        """Ask for another connection in place of this one."""
        if not self.replacement_due.is_set():
            self.reason, self.is_failing = reason, is_failing
            self.replacement_due.set()

    def close(self) -> None:
        """The connection is gone."""
        self._stream_set.remove(self)
        self.replacement_due.set()
        self.fulfilled.set()

    def carries(self, name: str) -> bool:
        """Whether the exchange has acknowledged `name` on this connection."""
        return name in self._carried

    def is_asking(self, name: str, *, subscribe: bool) -> bool:
        """Whether the request under way is of this kind and holds `name`."""
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
        """Whether `name` is wanted may have changed."""
        self._changed[name] = None
        self.work.set()

    def next_request(self, most_names: int) -> SubscriptionRequest | None:
        """The next request to make, of names that all go the same way."""
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
            self.work = trio.Event()
            self.fulfilled.set()
            return None
        self._under_way = SubscriptionRequest(subscribe, tuple(names))
        return self._under_way

    def confirm(self, request: SubscriptionRequest) -> None:
        """The exchange acknowledged `request`."""
        self._under_way = None
        for name in request.names:
            if request.subscribe:
                self._carried.add(name)
            else:
                self._carried.discard(name)
            self._changed[name] = None
        self._stream_set.acknowledged(request)
        self.work.set()
