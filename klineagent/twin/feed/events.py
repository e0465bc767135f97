"""The events of subscribed streams, and the clients that get them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from attrs import define, field

from klineagent.twin.feed.schedule import closing_time
from klineagent.twin.interval import MINUTE_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.candle import Candle
from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.socket.connections import ClientConnections
from klineagent.twin.wire import Series, StreamEvent, kline_event


@define(kw_only=True, eq=False)
class EventSource:
    """Makes the events of subscribed series, in a deterministic order."""

    _aggregator: Aggregator
    _subscribers: SubscriberIndex
    _series: Mapping[str, Series]
    """All series by stream name."""
    _sent: dict[str, Candle] = field(init=False, factory=dict)
    """The last state sent of each symbol's 1m candle."""

    def growth(self, now_ms: int) -> Iterator[StreamEvent]:
        """Yield events of the candles that changed since the last tick.

        Streams of 1s candles have one event a second, the closing one.
        """
        for symbol, group in self._subscribers.wanted().items():
            minute = self._aggregator.forming(symbol, TwinInterval.M1, now_ms)
            if minute is None or minute == self._sent.get(symbol):
                continue
            self._sent[symbol] = minute
            for series in group:
                if series.interval is TwinInterval.S1:
                    continue
                candle = self._aggregator.forming(symbol, series.interval, now_ms)
                if candle is not None:
                    yield kline_event(series, candle, now_ms, is_closed=False)

    def closings(self, now_ms: int, has_event: Callable[[Candle], bool]) -> Iterator[StreamEvent]:
        """Yield closing events of the last minute's candles, in the order of their times.

        Candles for which `has_event` is false have none. Those of 1s are not among them.
        """
        edge_ms = TwinInterval.M1.open_at(now_ms)
        ended = {interval for interval in TwinInterval if interval.open_at(edge_ms) == edge_ms}
        return self._ending(ended - {TwinInterval.S1}, edge_ms, has_event)

    def closing_seconds(
        self, now_ms: int, has_event: Callable[[Candle], bool]
    ) -> Iterator[StreamEvent]:
        """Yield closing events of the last second's candles, like `closings`."""
        return self._ending({TwinInterval.S1}, TwinInterval.S1.open_at(now_ms), has_event)

    def _ending(
        self, ended: AbstractSet[TwinInterval], edge_ms: int, has_event: Callable[[Candle], bool]
    ) -> Iterator[StreamEvent]:
        """Yield closing events of the candles at `ended` intervals that end at `edge_ms`."""
        minute_open = TwinInterval.M1.open_at(edge_ms - 1)
        groups: dict[str, list[Series]] = {}
        for symbol, group in self._subscribers.wanted().items():
            ending = [series for series in group if series.interval in ended]
            # A symbol without a candle in the last minute is halted, or its archive has ended.
            if ending and self._aggregator.market.minute(symbol, minute_open) is not None:
                groups[symbol] = ending
        times = {symbol: closing_time(symbol, edge_ms - 1) for symbol in groups}
        for symbol in sorted(groups, key=times.__getitem__):
            for series in groups[symbol]:
                event = self._closing(series, edge_ms, times[symbol], has_event)
                if event is not None:
                    yield event

    def closing(
        self, stream: str, edge_ms: int, has_event: Callable[[Candle], bool]
    ) -> StreamEvent | None:
        """The closing event of the candle of `stream` that ends at `edge_ms`, dated then.

        None where `closings` yields none.
        """
        series = self._series[stream]
        if self._aggregator.market.minute(series.listing.symbol, edge_ms - MINUTE_MS) is None:
            return None
        return self._closing(series, edge_ms, edge_ms, has_event)

    def _closing(
        self, series: Series, edge_ms: int, event_ms: int, has_event: Callable[[Candle], bool]
    ) -> StreamEvent | None:
        open_ms = series.interval.open_at(edge_ms - 1)
        candle = self._aggregator.whole(series.listing.symbol, series.interval, open_ms)
        if candle is None or not has_event(candle):
            return None
        return kline_event(series, candle, event_ms, is_closed=True)

    def peek(self, stream: str, now_ms: int) -> StreamEvent | None:
        """The forming event of `stream` at `now_ms`; None without a candle."""
        series = self._series[stream]
        candle = self._aggregator.forming(series.listing.symbol, series.interval, now_ms)
        return candle and kline_event(series, candle, now_ms, is_closed=False)


@define(kw_only=True, eq=False)
class SubscriberIndex:
    """The subscribed clients of each stream, rebuilt when subscriptions change."""

    _connections: ClientConnections
    _series: Mapping[str, Series]
    """All series by stream name."""
    _as_of: tuple[int, int] = field(init=False, default=(-1, -1))
    _clients: dict[str, list[ClientConnection]] = field(init=False, factory=dict)
    _wanted: Mapping[str, list[Series]] = field(init=False, factory=dict)
    _intervals: AbstractSet[TwinInterval] = field(init=False, factory=frozenset)

    def wanted(self) -> Mapping[str, list[Series]]:
        """Subscribed series by symbol, ordered by stream name."""
        self._refresh()
        return self._wanted

    def has(self, interval: TwinInterval) -> bool:
        """Whether any stream of `interval` is subscribed."""
        self._refresh()
        return interval in self._intervals

    def send(self, events: Iterable[StreamEvent]) -> None:
        """Send each event to the subscribers of its stream, combined or bare as they chose."""
        self._refresh()
        frames: dict[ClientConnection, list[bytes]] = {}
        for event in events:
            for client in self._clients.get(event.stream, ()):
                frames.setdefault(client, []).append(
                    event.framed(combined=client.protocol.combined)
                )
        for client, theirs in frames.items():
            client.send(b"".join(theirs))

    def _refresh(self) -> None:
        clients = self._connections.clients
        as_of = self._connections.changes, sum(client.protocol.changes for client in clients)
        # The changes of a client that leaves are no longer summed, but its leaving counts as one.
        if as_of == self._as_of:
            return
        self._as_of = as_of
        self._clients = {}
        for client in clients:
            for name, is_delivered in client.protocol.streams.items():
                if is_delivered and name in self._series:
                    self._clients.setdefault(name, []).append(client)
        wanted: dict[str, list[Series]] = {}
        for name in sorted(self._clients):
            series = self._series[name]
            wanted.setdefault(series.listing.symbol, []).append(series)
        self._wanted = wanted
        self._intervals = {self._series[name].interval for name in self._clients}
