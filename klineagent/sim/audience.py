"""Who hears what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field

from klineagent.sim.connections import Connections
from klineagent.sim.frames import Series, StreamEvent
from klineagent.sim.socket_line import Line


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
