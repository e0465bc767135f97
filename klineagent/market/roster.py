"""What one feed should carry against what it does carry. No I/O.

The exchange is told in requests of many names; this is where single wishes become requests. The
two sets may differ at any moment (a wish changes while a request is under way, the connection is
replaced); every answer is compared with what is wished by then, so they always meet again.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field, frozen

from klineagent.kline import Kline

Accept = Callable[[Kline], None]
"""Called, synchronously, with each kline of a stream."""


@define(eq=False)
class Stream:
    """One stream somebody wants."""

    name: str
    accept: Accept
    confirmed: trio.Event = field(factory=trio.Event, init=False)
    """Set while the present feed carries it; replaced by a new event when that feed is lost."""


@frozen
class Request:
    """Names to be subscribed, or to be unsubscribed, in one message."""

    subscribe: bool
    names: tuple[str, ...]


class Roster:
    """The streams of one feed: wanted, carried, and the requests that lead from one to the other.

    One request is under way at a time: `next_request`, then `confirm` or `lose_feed`.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, Stream] = {}
        self._carried: set[str] = set()
        # Not wanted, but carried or about to be: they count until the exchange has let them go.
        self._ending: dict[str, trio.Event] = {}
        self._changed: dict[str, None] = {}  # an ordered set: oldest wish first
        self._under_way: Request | None = None
        self.work = trio.Event()
        """Set while there may be a request to make; replaced when there is none."""

    def __repr__(self) -> str:
        return f"<Roster {len(self._wanted)} wanted, {len(self._carried)} carried>"

    def __contains__(self, name: str) -> bool:
        return name in self._wanted or name in self._ending

    def __len__(self) -> int:
        """Streams that count against the venue's limit: wanted ones and those not yet gone."""
        return len(self._wanted) + len(self._ending)

    @property
    def wanted(self) -> int:
        """How many streams are wanted."""
        return len(self._wanted)

    def want(self, stream: Stream) -> None:
        """Ask for `stream`; its `confirmed` is set once the exchange acknowledged it."""
        name = stream.name
        if name in self._wanted:
            raise ValueError(f"{name} is wanted already")
        self._wanted[name] = stream
        self._let_go(name)
        # Where its UNSUBSCRIBE is under way already, it is asked for again after that.
        if name in self._carried and not self._asked(name, subscribe=False):
            stream.confirmed.set()
        self._change(name)

    def release(self, name: str) -> None:
        """Stop wanting `name`."""
        del self._wanted[name]
        if name in self._carried or self._asked(name, subscribe=True):
            self._ending[name] = trio.Event()
        self._change(name)

    async def gone(self, name: str) -> None:
        """Wait until the exchange no longer sends `name`, or it is wanted again."""
        if (gone := self._ending.get(name)) is not None:
            await gone.wait()

    def accept(self, name: str, kline: Kline) -> bool:
        """Hand `kline` to whoever wants stream `name`; tell whether anybody does."""
        stream = self._wanted.get(name)
        if stream is None:
            return False
        stream.accept(kline)
        return True

    def next_request(self, most_names: int) -> Request | None:
        """The next request to make, of names that all go the same way."""
        subscribe: bool | None = None
        names: list[str] = []
        for name in list(self._changed):
            wanted, carried = name in self._wanted, name in self._carried
            if wanted == carried:
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
            return None
        self._under_way = Request(subscribe, tuple(names))
        return self._under_way

    def confirm(self, request: Request) -> None:
        """The exchange acknowledged `request`."""
        self._under_way = None
        for name in request.names:
            if request.subscribe:
                self._carried.add(name)
                if name in self._wanted:
                    self._wanted[name].confirmed.set()
            else:
                self._carried.discard(name)
                self._let_go(name)
            self._change(name)

    def lose_feed(self) -> None:
        """The connection is gone: nothing is carried, everything wanted must be asked for."""
        self._under_way = None
        self._carried.clear()
        for name in list(self._ending):
            self._let_go(name)
        for stream in self._wanted.values():
            if stream.confirmed.is_set():
                stream.confirmed = trio.Event()
        self._changed = dict.fromkeys(self._wanted)
        self.work.set()

    def _asked(self, name: str, *, subscribe: bool) -> bool:
        """Whether the request under way is of this kind and holds `name`."""
        request = self._under_way
        return request is not None and request.subscribe == subscribe and name in request.names

    def _change(self, name: str) -> None:
        self._changed[name] = None
        self.work.set()

    def _let_go(self, name: str) -> None:
        if (gone := self._ending.pop(name, None)) is not None:
            gone.set()
