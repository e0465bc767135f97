"""The exchange: a market, its clock, and everyone who listens."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn
from zlib import crc32

import structlog
import trio
from attrs import define, field, frozen

from klineagent.kline import MINUTE_MS, Interval
from klineagent.sim.archive import open_archive
from klineagent.sim.candle import Candle
from klineagent.sim.charts import Charts
from klineagent.sim.clock import ExchangeClock
from klineagent.sim.frames import Series, StreamEvent, kline_event, shutdown_event
from klineagent.sim.listings import idle_specimens
from klineagent.sim.market import Market
from klineagent.sim.random_market import RandomMarket
from klineagent.sim.rest_side import RestSide
from klineagent.sim.socket_line import Line
from klineagent.sim.socket_side import SocketSide
from klineagent.sim.venue import VenueRules, venue_named
from klineagent.sim.weight import WeightMeter

_log = structlog.get_logger()

# Closing events are made 2 to 300 ms after T, the last millisecond of their candle, and sent
# together when the last is made: before anything is said of the next candle.
_FIRST_CLOSING_MS = 2
_LAST_CLOSING_MS = 300
_SLOWEST_TICK_MS = 15_000
_EVENTS_AT_ONCE = 256


@frozen
class Moment:
    """When the exchange speaks next: of candles that closed, or of those that grow."""

    time_ms: int
    closes: bool


def next_moment(after_ms: int, tick_ms: int) -> Moment:
    """The first moment after `after_ms`.

    Ticks fall on odd multiples of half of `tick_ms`, so that none is on the edge of a minute.
    """
    closing = Interval.M1.open_at(after_ms) + _LAST_CLOSING_MS - 1
    if closing <= after_ms:
        closing += MINUTE_MS
    phase = tick_ms // 2
    tick = after_ms - (after_ms - phase) % tick_ms + tick_ms
    while tick % MINUTE_MS < _LAST_CLOSING_MS:
        tick += tick_ms
    return Moment(closing, closes=True) if closing < tick else Moment(tick, closes=False)


def closing_time(symbol: str, close_ms: int) -> int:
    """When the closing events of a symbol's candles that end with `close_ms` are made."""
    spread = _LAST_CLOSING_MS - _FIRST_CLOSING_MS + 1
    return close_ms + _FIRST_CLOSING_MS + crc32(f"{symbol}{close_ms}".encode()) % spread


@define(kw_only=True, eq=False)
class Exchange:
    """A venue that trades `market`.

    `run` makes it speak; `serve_exchange` and `TwinNetwork` bring the listeners. Made inside a
    Trio run, one at a time: it has one address to its REST callers, and one pool of weight.
    """

    market: Market
    venue: VenueRules
    clock: ExchangeClock
    tick_ms: int
    """Exchange time between growing updates of a stream."""
    empty_candles_close: bool = True
    """Whether a candle without trades has a closing event; of futures nobody knows."""
    seed: int = 0
    """Of the moments of first pings."""
    rest: RestSide = field(init=False)
    _charts: Charts = field(init=False)
    _series: dict[str, Series] = field(init=False)
    _lines: set[Line] = field(init=False, factory=set)
    _links: set[trio.CancelScope] = field(init=False, factory=set)
    _online: trio.Event = field(init=False, factory=trio.Event)
    _told: dict[str, Candle] = field(init=False, factory=dict)
    _chance: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._online.set()
        self._chance = random.Random(self.seed)  # noqa: S311 - a seeded twin, no secret
        self._charts = Charts(self.market)
        listings = self.market.listings
        self.rest = RestSide(
            venue=self.venue,
            charts=self._charts,
            listings=listings + idle_specimens(self.venue.name, self.market.start_ms),
            meter=WeightMeter(self.venue.weight_per_minute),
        )
        every_series = (
            Series(listing, interval) for listing in listings for interval in self.venue.intervals
        )
        self._series = {series.stream: series for series in every_series}

    def __repr__(self) -> str:
        state = "online" if self.is_online else "offline"
        return f"<Exchange {self.venue.name} {state}, {len(self._lines)} sockets>"

    # What connections need.

    @property
    def is_online(self) -> bool:
        """Whether connections can be made."""
        return self._online.is_set()

    async def until_online(self) -> None:
        """Wait for the end of an outage."""
        await self._online.wait()

    @contextmanager
    def cutting(self, link: trio.CancelScope) -> Iterator[None]:
        """An outage cancels `link` in here; so does one that has begun already."""
        self._links.add(link)
        if not self.is_online:
            link.cancel(reason="the exchange is offline")
        try:
            yield
        finally:
            self._links.discard(link)

    @contextmanager
    def listening(self, line: Line) -> Iterator[None]:
        """`line` hears its streams in here."""
        self._lines.add(line)
        try:
            yield
        finally:
            self._lines.discard(line)

    def first_ping_s(self) -> float:
        """Time until the first ping of a new connection: any phase of the venue's rhythm."""
        return self._chance.uniform(0, self.venue.ping_every_s)

    def announce_shutdown(self) -> None:
        """Tell all sockets that the server is about to stop, if the venue is one that does."""
        if self.venue.announces_shutdown:
            notice = shutdown_event(self.clock.now_ms())
            for line in self._lines:
                line.send(notice.framed(combined=line.side.combined))

    # Faults.

    @contextmanager
    def offline(self) -> Iterator[None]:
        """An outage: connections break without a word, and none can be made. Does not nest."""
        self._online = trio.Event()
        for link in self._links:
            link.cancel(reason="the exchange went offline")
        try:
            yield
        finally:
            self._online.set()

    # The market's voice.

    async def run(self) -> NoReturn:
        """Push events for ever; after a market's end there are none."""
        moment = next_moment(self.market.start_ms - 1, self.tick_ms)
        while self.market.end_ms is None or moment.time_ms < self.market.end_ms + MINUTE_MS:
            await self.clock.sleep_until(moment.time_ms)
            # An overloaded twin leaves growing updates out, and never a closing one.
            is_late = self.clock.now_ms() - moment.time_ms >= self.tick_ms
            if moment.closes:
                await self._push(self._closings(moment.time_ms))
            elif not is_late:
                await self._push(self._growth(moment.time_ms))
            moment = next_moment(moment.time_ms, self.tick_ms)
        _log.info("market ended", venue=self.venue.name, end_ms=self.market.end_ms)
        await trio.sleep_forever()
        raise AssertionError("sleep_forever returned")

    def _wanted(self) -> list[Series]:
        """The series someone is subscribed to, by their right names, where klines are delivered."""
        names = {name for line in self._lines if line.side.delivers for name in line.side.streams}
        return [self._series[name] for name in sorted(names & self._series.keys())]

    def _growth(self, now_ms: int) -> Iterator[StreamEvent]:
        """Events of the candles that changed since the last tick."""
        wanted = self._wanted()
        changed = {}
        for symbol in {series.listing.symbol for series in wanted}:
            minute = self._charts.forming(symbol, Interval.M1, now_ms)
            if minute is not None and minute != self._told.get(symbol):
                changed[symbol] = minute
        self._told |= changed
        for series in wanted:
            if series.listing.symbol not in changed:
                continue
            candle = self._charts.forming(series.listing.symbol, series.interval, now_ms)
            if candle is not None:
                yield kline_event(series, candle, now_ms, is_closed=False)

    def _closings(self, now_ms: int) -> Iterator[StreamEvent]:
        """Events of the candles that closed with the last minute, in the order of their times."""
        edge_ms = Interval.M1.open_at(now_ms)
        closed = []
        for series in self._wanted():
            symbol, interval = series.listing.symbol, series.interval
            if interval.open_at(edge_ms) != edge_ms:
                continue
            # A symbol with no candle in the last minute is halted, or its archive has ended.
            if self.market.minute(symbol, edge_ms - MINUTE_MS) is None:
                continue
            candle = self._charts.whole(symbol, interval, interval.open_at(edge_ms - 1))
            if candle is not None and (candle.trades or self.empty_candles_close):
                closed.append((closing_time(symbol, edge_ms - 1), series, candle))
        closed.sort(key=lambda item: item[0])
        for event_ms, series, candle in closed:
            yield kline_event(series, candle, event_ms, is_closed=True)

    async def _push(self, events: Iterator[StreamEvent]) -> None:
        """Send `events`, which are made as they are sent, some at a time: others must run too."""
        while some := list(islice(events, _EVENTS_AT_ONCE)):
            for line in self._lines:
                line.send(_frames_for(line.side, some))
            await trio.lowlevel.checkpoint()


def _frames_for(side: SocketSide, events: Iterable[StreamEvent]) -> bytes:
    """Those of `events` that a connection hears, as it wants them."""
    if not side.delivers:
        return b""
    return b"".join(
        event.framed(combined=side.combined) for event in events if event.stream in side.streams
    )


def open_market(
    *, archive: Path | None, symbols: int, seed: int, venue_name: str, start_ms: int
) -> Market:
    """The market to trade: the archive in a folder, with all it holds, or a made-up one.

    `symbols`, `seed` and `start_ms` describe the made-up one only.

    Raises:
        ConfigError: no such venue, or the archive cannot be used.
    """
    venue = venue_named(venue_name)
    if archive is not None:
        return open_archive(archive, venue.name)
    return RandomMarket(symbols=symbols, seed=seed, start_ms=start_ms, venue_name=venue.name)


@asynccontextmanager
async def open_exchange(
    market: Market, venue: VenueRules, *, speed: float = 1.0, tick_ms: int | None = None
) -> AsyncIterator[Exchange]:
    """An exchange that runs until the block ends, its clock starting where the market does.

    `tick_ms` is the exchange time between growing updates; by default the market's own, or else
    as often as the venue sends them in the time of its clients.
    """
    if tick_ms is None:
        paced = int(venue.update_every_ms * speed)
        tick_ms = market.tick_ms or min(max(venue.update_every_ms, paced), _SLOWEST_TICK_MS)
    exchange = Exchange(
        market=market,
        venue=venue,
        clock=ExchangeClock(start_ms=market.start_ms, speed=speed),
        tick_ms=tick_ms,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run)
        yield exchange
        nursery.cancel_scope.cancel(reason="the exchange is no longer needed")
