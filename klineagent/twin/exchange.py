"""The twin's exchange: a market, its clock and its connected clients."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NoReturn

import structlog
import trio
from attrs import define, field

from klineagent.twin.clock import ExchangeClock
from klineagent.twin.faults.faults import ExchangeFaults
from klineagent.twin.faults.lies import Lies
from klineagent.twin.feed.events import EventSource, SubscriberIndex
from klineagent.twin.feed.firehose import Firehose
from klineagent.twin.feed.schedule import next_moment, next_second
from klineagent.twin.interval import DAY_MS, MINUTE_MS, SECOND_MS, TwinInterval
from klineagent.twin.market.aggregation import Aggregator
from klineagent.twin.market.archive import open_archive
from klineagent.twin.market.candle import Candle
from klineagent.twin.market.eventful import EventfulMarket
from klineagent.twin.market.listings import odd_idle_listings
from klineagent.twin.market.market import Market
from klineagent.twin.market.random import RandomMarket
from klineagent.twin.rest.api import RestAnswer, RestApi, WeightMeter
from klineagent.twin.socket.connection import ClientConnection
from klineagent.twin.socket.connections import ClientConnections
from klineagent.twin.socket.protocol import SocketProtocol, open_protocol
from klineagent.twin.venues import VenueRules, venue_named
from klineagent.twin.wire import Series, StreamEvent, shutdown_event

_log = structlog.get_logger()

_SLOWEST_TICK_MS = 15_000
_EVENTS_AT_ONCE = 256


@define(kw_only=True, eq=False)
class Exchange:
    """A venue that trades `market`.

    `run` sends its events; `serve_exchange` and `TwinNetwork` connect clients. It must be created
    inside a Trio run. All REST clients share one address and so one weight limit, which exchanges
    of the same pool share by having the same `meter`.
    """

    market: Market
    venue: VenueRules
    clock: ExchangeClock
    tick_ms: int
    """Exchange time between two forming updates of a stream."""
    empty_candles_close: bool = True
    """Whether a candle without trades has a closing event; for futures this is not documented."""
    seed: int = 0
    """Seed of the times of first pings, and of where faults strike."""
    rate: float | None = None
    """Forming updates a second by Trio's clock; None for one per changed candle and tick."""
    meter: WeightMeter = field()
    breaches: Counter[str] = field(init=False, factory=Counter)
    """Breaches: limits that clients broke, by kind."""
    connections: ClientConnections = field(init=False)
    faults: ExchangeFaults = field(init=False)
    lies: Lies = field(init=False)
    rest: RestApi = field(init=False)
    firehose: Firehose | None = field(init=False, default=None)
    """Sends events at `rate`, if there is one."""
    _event_source: EventSource = field(init=False)
    _subscribers: SubscriberIndex = field(init=False)
    _series: Mapping[str, Series] = field(init=False)
    _dice: random.Random = field(init=False)
    # Set once, when streams were subscribed.
    _subscribed: trio.Event = field(init=False, factory=trio.Event)

    @meter.default
    def _own_meter(self) -> WeightMeter:
        return WeightMeter(self.venue.weight_per_minute)

    def __attrs_post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311 - a seeded twin, no secret
        aggregator, listings = Aggregator(self.market), self.market.listings
        traded = {listing.symbol for listing in listings}
        idle = odd_idle_listings(self.venue.name, self.market.start_ms)
        self.rest = RestApi(
            venue=self.venue,
            aggregator=aggregator,
            listings=listings + tuple(each for each in idle if each.symbol not in traded),
            meter=self.meter,
            breaches=self.breaches,
        )
        every_series = (
            Series(listing, interval)
            for listing in listings
            for interval in TwinInterval
            if interval in self.venue.intervals
        )
        self._series = series = {each.stream: each for each in every_series}
        self.connections = ClientConnections(breaches=self.breaches)
        self._subscribers = SubscriberIndex(connections=self.connections, series=series)
        self._event_source = EventSource(
            aggregator=aggregator, subscribers=self._subscribers, series=series
        )
        self.faults = ExchangeFaults(
            seed=self.seed,
            venue=self.venue,
            connections=self.connections,
            now_ms=self.clock.now_ms,
            peek=self._event_source.peek,
        )
        self.lies = Lies(
            faults=self.faults,
            now_ms=self.clock.now_ms,
            may_skip_candles=self.venue.may_skip_candles,
        )
        if self.rate is not None:
            self.firehose = Firehose(
                rate=self.rate,
                clock=self.clock,
                event_source=self._event_source,
                series=series,
                connections=self.connections,
                has_event=self._has_closing_event,
            )
        if isinstance(self.market, EventfulMarket):
            self.market.follow(self.clock.now_ms, self.faults.injected)
            self.rest.as_listed = partial(self.market.as_listed, self.venue)

    def __repr__(self) -> str:
        state = "online" if self.connections.is_online else "offline"
        return f"<Exchange {self.venue.name} {state}, {len(self.connections.clients)} sockets>"

    def offline(self) -> AbstractContextManager[None]:
        """Simulate an outage: connections are reset, and none can be opened."""
        return self.faults.offline()

    def announce_shutdown(self) -> None:
        """Send a shutdown notice to all clients, if the venue sends such notices."""
        if self.venue.announces_shutdown:
            self.connections.broadcast(shutdown_event(self.clock.now_ms()))

    # Called by connections.

    def first_ping_s(self) -> float:
        """Seconds until the first ping of a new connection: a random phase of the ping interval."""
        return self._dice.uniform(0, self.venue.ping_every_s)

    def open_protocol(self, target: str) -> SocketProtocol | None:
        """Open the socket at a request target; None if there is no such path."""
        return open_protocol(
            self.venue,
            target,
            trio.current_time(),
            mutes=self.faults.mutes,
            breaches=self.breaches,
        )

    async def answer(self, method: str, path: str, query: Mapping[str, str]) -> RestAnswer | None:
        """Answer a REST request; None if the connection must be reset instead."""
        if await self.faults.hang_rest(path):
            return None
        for _ in self.rest.draw(path, query, self.clock.now_ms()):
            await trio.lowlevel.checkpoint()
        now_ms = self.clock.now_ms()
        lag_ms = self.faults.rest_lag_ms(now_ms) if path.endswith("/klines") else 0
        answer = self.rest.answer(method, path, query, now_ms, lag_ms=lag_ms)
        return self.faults.spoil(path, query, answer, now_ms)

    def refill(self, client: ClientConnection) -> None:
        """Send more to `client`, whose send buffer is empty, if the rate is unlimited."""
        if self.firehose is not None:
            self.firehose.refill(client)

    def note_subscriptions(self) -> None:
        """Note that a client may have subscribed to streams."""
        self._subscribed.set()
        self._subscribed = trio.Event()

    # Events.

    def draw(self) -> None:
        """Compute every open candle in advance, as a first event may cost a month of minutes."""
        now_ms = self.clock.now_ms()
        for stream in self._series:
            self._event_source.peek(stream, now_ms)

    async def run(self) -> NoReturn:
        """Send events for ever; none after the market's end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_seconds)
            await (self._run_minutes() if self.firehose is None else self.firehose.run())
        raise AssertionError("a part has ended")

    async def _run_seconds(self) -> NoReturn:
        """Send closing events of 1s candles while any are subscribed."""
        now_ms = self.clock.start_ms
        while self.market.end_ms is None or now_ms < self.market.end_ms + SECOND_MS:
            while not self._subscribers.has(TwinInterval.S1):
                await self._subscribed.wait()
                now_ms = self.clock.now_ms()
            now_ms = next_second(now_ms)
            await self.clock.sleep_until(now_ms)
            events = self._event_source.closing_seconds(now_ms, self._has_closing_event)
            await self._push(events, now_ms)
        await trio.sleep_forever()
        raise AssertionError("sleep_forever returned")

    async def _run_minutes(self) -> NoReturn:
        """Send all other events."""
        moment = next_moment(self.clock.start_ms - 1, self.tick_ms)
        while self.market.end_ms is None or moment.time_ms < self.market.end_ms + MINUTE_MS:
            await self._push_late(moment.time_ms)
            await self.clock.sleep_until(moment.time_ms)
            # An overloaded twin skips forming updates, never closing ones.
            is_late = self.clock.now_ms() - moment.time_ms >= self.tick_ms
            if moment.closes:
                await self._push(
                    self._event_source.closings(moment.time_ms, self._has_closing_event),
                    moment.time_ms,
                )
            elif not is_late:
                await self._push(self._event_source.growth(moment.time_ms), moment.time_ms)
            moment = next_moment(moment.time_ms, self.tick_ms)
        _log.info("market ended", venue=self.venue.name, end_ms=self.market.end_ms)
        while (late_at := self.faults.late_at()) is not None:
            await self._push_late(late_at + 1)
        await trio.sleep_forever()
        raise AssertionError("sleep_forever returned")

    def _has_closing_event(self, candle: Candle) -> bool:
        if candle.trades:
            return True
        return self.empty_candles_close and not self.faults.silences_close_of(candle)

    async def _push(self, events: Iterator[StreamEvent], now_ms: int) -> None:
        """Send lazily made `events` in portions, so that other tasks get their turn."""
        if self.faults.disturb_events:
            events = self.faults.tamper(events, now_ms)
        while some := list(islice(events, _EVENTS_AT_ONCE)):
            self._subscribers.send(some)
            await trio.lowlevel.checkpoint()

    async def _push_late(self, before_ms: int) -> None:
        """Send the events that faults delayed to times before `before_ms`, each at its time."""
        while (late_at := self.faults.late_at()) is not None and late_at < before_ms:
            await self.clock.sleep_until(late_at)
            self._subscribers.send(self.faults.take_late(late_at))


def open_market(
    *,
    archive: Path | None,
    symbols: int,
    seed: int,
    venue_name: str,
    start_ms: int,
    history_ms: int = DAY_MS,
) -> Market:
    """Open the market to trade: all of the archive in a folder, or a made-up one.

    All parameters but `archive` and `venue_name` describe the made-up one only.

    Raises:
        ConfigError: there is no such venue, or the archive cannot be read.
    """
    venue = venue_named(venue_name)
    if archive is not None:
        return open_archive(archive, venue.name)
    return RandomMarket(
        symbols=symbols,
        seed=seed,
        start_ms=start_ms,
        venue_name=venue.name,
        history_ms=history_ms,
    )


@asynccontextmanager
async def open_exchange(
    market: Market,
    venue: VenueRules,
    *,
    speed: float = 1.0,
    tick_ms: int | None = None,
    seed: int = 0,
    rate: float | None = None,
    clock: ExchangeClock | None = None,
    meter: WeightMeter | None = None,
) -> AsyncIterator[Exchange]:
    """Run an exchange while the block lasts.

    Args:
        market: what it trades.
        venue: the rules that it follows.
        speed: the pace of its clock, as a multiple of Trio's.
        tick_ms: exchange time between forming updates; by default the market's own, else the
            venue's interval in its clients' time.
        seed: decides where faults strike.
        rate: forming updates a second, which `Firehose` sends instead.
        clock: its clock, if others share it; by default one that starts at the market's start.
        meter: the weight that clients have used, if others share it.
    """
    clock = clock or ExchangeClock(start_ms=market.start_ms, speed=speed)
    if tick_ms is None:
        paced = int(venue.update_every_ms * clock.speed)
        tick_ms = market.tick_ms or min(max(venue.update_every_ms, paced), _SLOWEST_TICK_MS)
    exchange = Exchange(
        market=market,
        venue=venue,
        clock=clock,
        tick_ms=tick_ms,
        seed=seed,
        rate=rate,
        meter=meter or WeightMeter(venue.weight_per_minute),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run)
        yield exchange
        nursery.cancel_scope.cancel(reason="the exchange is no longer needed")
