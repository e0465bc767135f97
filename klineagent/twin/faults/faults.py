"""The exchange's active faults.

A fault lasts as long as its `with` block. Blocks nest and overlap freely, also of the same kind.
With the same seed faults strike the same way in every process. The docstrings name effects that
outlast the block, such as delayed events and stalled connections.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Literal

import msgspec
import trio
from attrs import define, evolve, field

from klineagent.twin.faults import events as event_faults
from klineagent.twin.faults import rest as rest_faults
from klineagent.twin.faults.blocks import FaultBlocks
from klineagent.twin.faults.events import Chance, Peek, Tampering
from klineagent.twin.faults.rest import Refusal, Spoiling
from klineagent.twin.faults.rest_lies import Lie, Query
from klineagent.twin.market.candle import Candle
from klineagent.twin.rest.api import RestAnswer
from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.socket.connections import ClientConnections
from klineagent.twin.socket.protocol import Hangup
from klineagent.twin.venues import VenueRules
from klineagent.twin.wire import StreamEvent, sdk_shutdown_event, shutdown_event

Lag = Callable[[int], int]
"""How many milliseconds klines lag at a time."""
Hang = tuple[str, trio.Event]
"""The suffix of paths that are not answered, and the event that ends this."""

_OK = 200
_Block = AbstractContextManager[None]


@define(kw_only=True, eq=False)
class ExchangeFaults(FaultBlocks):
    """The faults that are active, and a count of all that struck."""

    _venue: VenueRules
    _connections: ClientConnections
    _now_ms: Callable[[], int]
    _peek: Peek
    # Active faults in the order in which they began.
    _tamperings: dict[int, Tampering] = field(init=False, factory=dict)
    _spoilings: dict[int, Spoiling] = field(init=False, factory=dict)
    _lies: dict[int, tuple[str, Lie]] = field(init=False, factory=dict)
    _lags: dict[int, tuple[str, Lag]] = field(init=False, factory=dict)
    _hangs: dict[int, Hang] = field(init=False, factory=dict)
    _stalls: dict[int, Chance] = field(init=False, factory=dict)
    _silences: dict[int, Chance] = field(init=False, factory=dict)
    _quiets: dict[int, str] = field(init=False, factory=dict)
    # Events held back until their time, or until the next event of their stream.
    _late: list[tuple[int, int, StreamEvent]] = field(init=False, factory=list)
    _stragglers: dict[str, StreamEvent] = field(init=False, factory=dict)

    # Events.

    def losing_closings(self, share: float = 1.0) -> _Block:
        """Never send that share of closing events."""
        chance = self.chance("losing_closings", share)
        return self.tampering(partial(event_faults.losing, chance))

    def delaying_closings(self, share: float = 1.0, *, by_ms: int = 30_000) -> _Block:
        """Send closing events `by_ms` later, even after the block; `E` remains the true time."""
        chance = self.chance("delaying_closings", share)
        hold = partial(self.hold, by_ms)
        return self.tampering(partial(event_faults.delaying, chance, hold))

    def doubling_closings(self, share: float = 1.0) -> _Block:
        """Send closing events twice in a row."""
        chance = self.chance("doubling_closings", share)
        return self.tampering(partial(event_faults.doubling, chance))

    def reordering(self, share: float = 1.0) -> _Block:
        """Send closing events after another stream's, or after the next event of their own."""
        chance = self.chance("reordering", share)
        stragglers = self._stragglers
        return self.tampering(partial(event_faults.reordering, chance, stragglers))

    def early_opens(self, share: float = 1.0) -> _Block:
        """Send an event of the next candle, with the same `E`, before a closing event."""
        chance = self.chance("early_opens", share)
        return self.tampering(partial(event_faults.opening_early, chance, self._peek))

    def quiet_empties(self) -> _Block:
        """Send no closing event for candles without trades."""
        return self._during(self._quiets, "quiet_empties")

    def garbling(self, share: float = 1.0, *, in_place: bool = False) -> _Block:
        """Send a frame of garbage before, or in place of, that share of events."""
        chance = self.chance("garbling", share)
        return self.tampering(partial(event_faults.garbling, chance, in_place))

    def truncating(self, share: float = 1.0) -> _Block:
        """Truncate that share of events, so that they are lost."""
        chance = self.chance("truncating", share)
        return self.tampering(partial(event_faults.truncating, chance))

    def fragmenting(self, share: float = 1.0) -> _Block:
        """Send that share of events in fragments, at times with a ping between them."""
        chance = self.chance("fragmenting", share)
        return self.tampering(event_faults.Fragmenting(chance))

    # ClientConnections.

    def offline(self) -> _Block:
        """Simulate an outage: connections are reset, and none can be opened."""
        self.injected["offline"] += 1
        return self._connections.offline()

    def silent_acks(self, share: float = 1.0) -> _Block:
        """Acknowledge that share of streams subscribed by request, but never deliver them.

        This lasts as long as the connection.
        """
        return self._during(self._silences, self.chance("silent_acks", share))

    @contextmanager
    def stalling(self, share: float = 1.0) -> Iterator[None]:
        """Keep that share of connections open, but never send on them again.

        It strikes open connections, and new ones during the block, whose handshake is not even
        answered. Unsent data is lost.
        """
        chance = self.chance("stalling", share)
        for client in self._connections.clients:
            if chance.strikes():
                client.stall()
        with self._during(self._stalls, chance):
            yield

    def reset_connections(self, share: float = 1.0) -> None:
        """Reset that share of connections, without a close frame."""
        for client in self._struck("reset_connections", share):
            client.reset()

    def close_connections(
        self, code: int = 1001, reason: str = "going away", *, share: float = 1.0
    ) -> None:
        """Close that share of connections with a close frame."""
        for client in self._struck("close_connections", share):
            client.hang_up(Hangup(reason, code))

    def announce_shutdown(self, shape: Literal["wire", "sdk"] = "wire") -> None:
        """Send a shutdown notice to all clients, on any venue.

        The shape `wire` depends on the kind of connection; `sdk` is the one the SDK expects.
        """
        make = sdk_shutdown_event if shape == "sdk" else shutdown_event
        self._connections.broadcast(make(self._now_ms()))
        self.injected["announce_shutdown"] += 1

    # REST.

    def lagging_rest(self, by_ms: int) -> _Block:
        """Answer klines as they were `by_ms` ago; `/time` is correct."""
        return self.lagging("lagging_rest", lambda _now_ms: by_ms)

    def refusing_rest(
        self,
        status: Literal[418, 429] = 429,
        *,
        headers: bool = True,
        tells_until: bool = True,
    ) -> _Block:
        """Refuse every request.

        `headers` adds `Retry-After`; `tells_until` adds the end of a ban to its text. A ban lasts
        two minutes at a time.
        """
        refusal = Refusal(
            venue=self._venue,
            status=status,
            headers=headers,
            tells_until=tells_until,
            since_ms=self._now_ms(),
        )
        return self._spoiling(self._counted("refusing_rest", refusal))

    def lying_weights(self, factor: float = 0.0) -> _Block:
        """Report `factor` times the used weight."""
        lie = partial(rest_faults.weighing_wrong, factor)
        return self._spoiling(self._counted("lying_weights", lie))

    def hiding_weights(self) -> _Block:
        """Do not report the used weight."""
        return self._spoiling(self._counted("hiding_weights", rest_faults.hiding_weight))

    def failing_rest(self, share: float = 1.0) -> _Block:
        """Answer that share of requests with 500, 503, or half a body."""
        chance = self.chance("failing_rest", share)
        return self._spoiling(partial(rest_faults.failing, chance))

    @contextmanager
    def hanging_rest(self, path: str = "") -> Iterator[None]:
        """Leave requests unanswered while the block lasts, then reset their connections.

        With `path` only requests for paths that end with it.
        """
        over = trio.Event()
        with self._during(self._hangs, (path, over)):
            try:
                yield
            finally:
                over.set()

    # Called by the exchange.

    @property
    def disturb_events(self) -> bool:
        """Whether events must go through `tamper` before they are sent."""
        return bool(self._tamperings or self._stragglers)

    def tamper(self, events: Iterable[StreamEvent], now_ms: int) -> Iterator[StreamEvent]:
        """Apply the active faults to `events`."""
        for tampering in self._tamperings.values():
            events = tampering(events, now_ms)
        return event_faults.following(self._stragglers, events, now_ms)

    def late_at(self) -> int | None:
        """When the next delayed event is due; None if there is none."""
        return self._late[0][0] if self._late else None

    def take_late(self, now_ms: int) -> list[StreamEvent]:
        """Remove and return the delayed events that are due."""
        events = []
        while self._late and self._late[0][0] <= now_ms:
            events.append(heapq.heappop(self._late)[2])
        return events

    def silences_close_of(self, candle: Candle) -> bool:
        """Whether the closing event of `candle` is suppressed; counts it."""
        if candle.trades or not self._quiets:
            return False
        self.injected["quiet_empties"] += 1
        return True

    def mutes(self, name: str) -> bool:
        """Whether stream `name`, which is being subscribed, stays silent."""
        return any(chance.strikes() for chance in self._silences.values())

    def stalls_newcomer(self) -> bool:
        """Whether a new connection stalls."""
        return any(chance.strikes() for chance in self._stalls.values())

    def rest_lag_ms(self, now_ms: int) -> int:
        """How many milliseconds klines lag now; counts the fault."""
        lags = ((lag(now_ms), kind) for kind, lag in self._lags.values())
        longest_ms, kind = max(lags, default=(0, ""))
        if longest_ms:
            self.injected[kind] += 1
        return longest_ms

    def spoil(self, path: str, query: Query, answer: RestAnswer, now_ms: int) -> RestAnswer:
        """Apply the active faults to `answer`."""
        lies = [lie for concerned, lie in self._lies.values() if path.endswith(concerned)]
        if lies and answer.status == _OK:
            content = msgspec.json.decode(answer.body)
            for lie in lies:
                content = lie(content, query)
            answer = evolve(answer, body=json.dumps(content, separators=(",", ":")).encode())
        for spoiling in self._spoilings.values():
            answer = spoiling(answer, now_ms)
        return answer

    async def hang_rest(self, path: str) -> bool:
        """Wait while REST hangs; True if it did, as the connection must then be reset."""
        if not (hangs := self._hangs_of(path)):
            return False
        self.injected["hanging_rest"] += 1
        while hangs:
            await hangs[0].wait()
            hangs = self._hangs_of(path)
        return True

    def _hangs_of(self, path: str) -> list[trio.Event]:
        return [over for concerned, over in self._hangs.values() if path.endswith(concerned)]

    # Called by `Lies`.

    def lying(self, path: str, lie: Lie) -> _Block:
        """Apply `lie` to answers for paths that end with `path`."""
        return self._during(self._lies, (path, lie))

    def lagging(self, kind: str, lag: Lag) -> _Block:
        """Make klines lag; the longest active lag wins and counts as `kind`."""
        return self._during(self._lags, (kind, lag))

    def tampering(self, tampering: Tampering) -> _Block:
        """Apply `tampering` to events before they are sent."""
        return self._during(self._tamperings, tampering)

    def _spoiling(self, spoiling: Spoiling) -> _Block:
        return self._during(self._spoilings, spoiling)

    def hold(self, by_ms: int, event: StreamEvent) -> None:
        """Delay `event` by `by_ms`."""
        heapq.heappush(self._late, (self._now_ms() + by_ms, next(self._serial), event))

    def _struck(self, kind: str, share: float) -> list[ClientConnection]:
        chance = self.chance(kind, share)
        return [client for client in self._connections.clients if chance.strikes()]

    def _counted(self, kind: str, spoiling: Spoiling) -> Spoiling:
        def count_and_spoil(answer: RestAnswer, now_ms: int) -> RestAnswer:
            self.injected[kind] += 1
            return spoiling(answer, now_ms)

        return count_and_spoil
