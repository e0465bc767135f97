"""What the exchange has to say of its market to those who listen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import define, field

from klineagent.twin.feed.schedule import closing_time
from klineagent.twin.interval import MINUTE_MS, Interval
from klineagent.twin.market.aggregation import Charts
from klineagent.twin.market.candle import Candle
from klineagent.twin.socket.connection import Line
from klineagent.twin.socket.connections import Connections
from klineagent.twin.wire import Series, StreamEvent, kline_event


@define(kw_only=True, eq=False)
class Voice:
    """Events of the series that someone hears, in an order that never depends on chance."""

    _charts: Charts
    _audience: Audience
    _series: Mapping[str, Series]
    """All there are, by the names of their streams."""
    _told: dict[str, Candle] = field(init=False, factory=dict)

    def growth(self, now_ms: int) -> Iterator[StreamEvent]:
        """Events of the candles that changed since the last tick."""
        for symbol, group in self._audience.wanted().items():
            minute = self._charts.forming(symbol, Interval.M1, now_ms)
            if minute is None or minute == self._told.get(symbol):
                continue
            self._told[symbol] = minute
            for series in group:
                candle = self._charts.forming(symbol, series.interval, now_ms)
                if candle is not None:
                    yield kline_event(series, candle, now_ms, is_closed=False)

    def closings(self, now_ms: int, speaks_of: Callable[[Candle], bool]) -> Iterator[StreamEvent]:
        """Events of the candles that closed with the last minute, in the order of their times.

        Of candles that are not to be spoken of none is made.
        """
        edge_ms = Interval.M1.open_at(now_ms)
        ended = [interval for interval in Interval if interval.open_at(edge_ms) == edge_ms]
        wanted, minute = self._audience.wanted(), self._charts.market.minute
        # A symbol with no candle in the last minute is halted, or its archive has ended.
        closed = [symbol for symbol in wanted if minute(symbol, edge_ms - MINUTE_MS) is not None]
        times = {symbol: closing_time(symbol, edge_ms - 1) for symbol in closed}
        for symbol in sorted(closed, key=times.__getitem__):
            for series in wanted[symbol]:
                if series.interval not in ended:
                    continue
                event = self._closing(series, edge_ms, times[symbol], speaks_of)
                if event is not None:
                    yield event

    def closing(
        self, stream: str, edge_ms: int, speaks_of: Callable[[Candle], bool]
    ) -> StreamEvent | None:
        """The closing event of the candle of `stream` that ends at `edge_ms`, and is of that time.

        None where the market says nothing of it: see `closings`.
        """
        series = self._series[stream]
        if self._charts.market.minute(series.listing.symbol, edge_ms - MINUTE_MS) is None:
            return None
        return self._closing(series, edge_ms, edge_ms, speaks_of)

    def _closing(
        self, series: Series, edge_ms: int, event_ms: int, speaks_of: Callable[[Candle], bool]
    ) -> StreamEvent | None:
        open_ms = series.interval.open_at(edge_ms - 1)
        candle = self._charts.whole(series.listing.symbol, series.interval, open_ms)
        if candle is None or not speaks_of(candle):
            return None
        return kline_event(series, candle, event_ms, is_closed=True)

    def peek(self, stream: str, now_ms: int) -> StreamEvent | None:
        """The growing event of `stream` at a time; None where there is no candle."""
        series = self._series[stream]
        candle = self._charts.forming(series.listing.symbol, series.interval, now_ms)
        return candle and kline_event(series, candle, now_ms, is_closed=False)


@define(kw_only=True, eq=False)
class Audience:
    """The listeners of each stream, put together anew when anyone's subscriptions change."""

    _connections: Connections
    _series: Mapping[str, Series]
    """All there are, by the names of their streams."""
    _as_of: tuple[int, int] = field(init=False, default=(-1, -1))
    _lines: dict[str, list[Line]] = field(init=False, factory=dict)
    _wanted: Mapping[str, list[Series]] = field(init=False, factory=dict)

    def wanted(self) -> Mapping[str, list[Series]]:
        """The series someone hears, by symbol, in the order of their streams' names."""
        self._refresh()
        return self._wanted

    def send(self, events: Iterable[StreamEvent]) -> None:
        """Send each event to those who hear its stream, as they want it."""
        self._refresh()
        frames: dict[Line, list[bytes]] = {}
        for event in events:
            for line in self._lines.get(event.stream, ()):
                frames.setdefault(line, []).append(event.framed(combined=line.side.combined))
        for line, heard in frames.items():
            line.send(b"".join(heard))

    def _refresh(self) -> None:
        lines = self._connections.lines
        as_of = self._connections.changes, sum(line.side.changes for line in lines)
        # A line that goes takes its changes with it, but counts as one of the connections'.
        if as_of == self._as_of:
            return
        self._as_of = as_of
        self._lines = {}
        for line in lines:
            for name, is_heard in line.side.streams.items():
                if is_heard and name in self._series:
                    self._lines.setdefault(name, []).append(line)
        wanted: dict[str, list[Series]] = {}
        for name in sorted(self._lines):
            series = self._series[name]
            wanted.setdefault(series.listing.symbol, []).append(series)
        self._wanted = wanted
