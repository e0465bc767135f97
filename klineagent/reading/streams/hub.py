"""The hub of all stream sockets: which client gets which events, encoded once for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn, Protocol

import structlog
import trio
from attrs import define, field

from klineagent.core.errors import ShuttingDown, TooManySockets
from klineagent.core.interval import Interval
from klineagent.core.kline import Kline, SeriesName
from klineagent.exchange.venues import SPOT, USDM, VENUES, Venue, how_to_add
from klineagent.reading.streams.events import CandleEvent, EventFormat, Form
from klineagent.reading.streams.flush import LATER_S, SOON_S, Flush
from klineagent.reading.streams.listeners import SeriesEvents, StreamListener
from klineagent.reading.streams.name import StreamName, read_name
from klineagent.reading.streams.order import CandleOrder
from klineagent.reading.streams.outbox import Outbox
from klineagent.reading.streams.requests import CloseReason
from klineagent.series.subscription import Subscription
from klineagent.series.venues import Venues

MOST_CLIENTS = 100
# A lost closing event is missed after a grace of 5 s by default, and fetched within a second.
HELD_S = 10.0
LOOK_EVERY_S = 0.25
# A client that asks for names in endless variation must not fill the log.
MOST_TOLD = 1_000
CLOSING = CloseReason("the agent is shutting down", 1001)

log = structlog.get_logger()


class StreamClient(Protocol):
    """A client whose socket the hub can close."""

    def hang_up(self, close_reason: CloseReason) -> None:
        """Close the socket for the reason given."""


@define
class StreamCounts:
    """Counts clients of streams."""

    clients: int = 0
    """Those that are connected."""
    cut: int = 0
    """Those that did not read and were disconnected, since the start."""


@define(eq=False)
class StreamHub:
    """Hands events on to the clients that listen; a follower of the bus.

    Forming candles come as they go to the writer, once per flush; closing events come at once.
    """

    _venues: Venues
    counts: StreamCounts = field(factory=StreamCounts)
    _clients: dict[StreamClient, None] = field(factory=dict, init=False)
    _is_closed: bool = field(default=False, init=False)
    _feeds: dict[SeriesName, SeriesEvents] = field(factory=dict, init=False)
    _held: dict[SeriesName, float] = field(factory=dict, init=False)
    """Since when the events of some series wait for an earlier candle."""
    _are_held: trio.Event = field(factory=trio.Event, init=False)
    _waiting: dict[SeriesName, dict[StreamListener, None]] = field(factory=dict, init=False)
    """Listeners to what is not recorded, by each series that it may mean."""
    _told: dict[str, None] = field(factory=dict, init=False)
    """Names of which the log has a line."""
    soon: Flush = field(factory=lambda: Flush(SOON_S), init=False)
    later: Flush = field(factory=lambda: Flush(LATER_S), init=False)

    # Clients

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Hold room for a client: before the handshake, in which others may come.

        Raises:
            ShuttingDown: the agent is stopping.
            TooManySockets: there is no room.
        """
        if self._is_closed:
            raise ShuttingDown(CLOSING.text)
        if self.counts.clients >= MOST_CLIENTS:
            raise TooManySockets(f"there are {MOST_CLIENTS} stream sockets already")
        self.counts.clients += 1
        try:
            yield
        finally:
            self.counts.clients -= 1

    @contextmanager
    def serving(self, client: StreamClient) -> Iterator[None]:
        """Within the block `client` is closed when the hub is, or at once if that was before."""
        self._clients[client] = None
        try:
            if self._is_closed:
                client.hang_up(CLOSING)
            yield
        finally:
            del self._clients[client]

    def close(self) -> None:
        """Close all sockets."""
        self._is_closed = True
        for client in [*self._clients]:
            client.hang_up(CLOSING)

    # Streams

    def listen(
        self, outbox: Outbox, text: str, venues: Sequence[Venue], *, is_combined: bool
    ) -> StreamListener | None:
        """Send `outbox` the events of the stream called `text`, the present candle now.

        The stream is that of the first of `venues` which records it. None if it can have no events.
        """
        venues = self._meant(venues)
        if (name := read_name(text)) is None or not (series := name.series(venues)):
            if self._tell(text):
                log.debug("stream_unknown", stream=text)
            return None
        listener = StreamListener(
            outbox=outbox,
            name=name,
            series=series,
            form=Form(name.is_continuous, is_combined),
        )
        for each in series:
            if self._subscription(each) is not None:
                self._enter(listener, each)
                return listener
        self._tell_how_to_add(name, series)
        for each in series:
            self._waiting.setdefault(each, {})[listener] = None
        return listener

    def _meant(self, venues: Sequence[Venue]) -> Sequence[Venue]:
        """Return the venues that a path means."""
        spot = self._venues.get(SPOT.name) if SPOT in venues else None
        if spot is None or not spot.is_wanted:
            return venues
        # Symbols of the two have equal names, and a bot must not be given prices of the other.
        return [venue for venue in venues if venue != USDM]

    def leave(self, listener: StreamListener) -> None:
        """Send no more events to `listener`."""
        listener.outbox.forget(listener)
        self._stop_waiting(listener)
        for each in listener.series:
            feed = self._feeds.get(each)
            if feed is not None and feed.discard(listener) and not feed.listeners:
                del self._feeds[each]
                self._held.pop(each, None)

    def reshape(self, listener: StreamListener, *, is_combined: bool) -> None:
        """Send the next events to `listener` with or without the envelope."""
        feeds = [feed for each in listener.series if (feed := self._feeds.get(each))]
        listening = [feed for feed in feeds if feed.discard(listener)]
        listener.form = listener.form._replace(is_combined=is_combined)
        for feed in listening:
            feed.add(listener)

    def _enter(self, listener: StreamListener, series: SeriesName) -> None:
        if (feed := self._feeds.get(series)) is None:
            feed = self._feeds[series] = SeriesEvents(CandleOrder(Interval(series[2])))
            if (present := self._present(series)) is not None:
                feed.order.put(CandleEvent(present, None, self._format))
        feed.add(listener)
        newest = feed.order.newest
        if newest is not None and self._is_present(newest.kline):
            listener.greet(newest)

    def _present(self, series: SeriesName) -> Kline | None:
        """Return the newest state of the present candle; None if no event of it has come."""
        subscription = self._subscription(series)
        if subscription is None or (newest := subscription.newest) is None:
            return None
        # Its closing event was lost, and the row that was fetched is not kept.
        is_outdated = not newest.is_closed and subscription.ledger.has_closed(newest.open_time)
        return newest if self._is_present(newest) and not is_outdated else None

    def _is_present(self, kline: Kline) -> bool:
        """Whether it is a state of the candle that is open now, or of the one before."""
        interval, now_ms = Interval(kline.interval), self._venues.now_ms(kline.venue) or 0
        return kline.open_time >= interval.shifted(interval.open_at(now_ms), -1)

    def _stop_waiting(self, listener: StreamListener) -> None:
        for each in listener.series:
            if (waiting := self._waiting.get(each)) is not None:
                waiting.pop(listener, None)
                if not waiting:
                    del self._waiting[each]

    # Events

    def follow(self, klines: Sequence[Kline], frames: Sequence[bytes]) -> None:
        """Take published rows and their frames; fetched rows have none."""
        if not self._feeds and not self._waiting:
            return
        names = [kline[:3] for kline in klines]
        for series in self._waiting.keys() & names if self._waiting else ():
            for listener in [*self._waiting.get(series, ())]:
                self._stop_waiting(listener)
                self._enter(listener, series)
        if self._feeds:
            self._take(names, klines, frames)

    def _take(
        self, names: Sequence[SeriesName], klines: Sequence[Kline], frames: Sequence[bytes]
    ) -> None:
        taken: dict[SeriesName, None] = {}
        for at, series in enumerate(names):
            if (feed := self._feeds.get(series)) is not None:
                frame = frames[at] if frames else None
                if not (frame or feed.order.newest or self._is_present(klines[at])):
                    continue  # no stream begins in the past
                feed.send(feed.order.put(CandleEvent(klines[at], frame, self._format)))
                taken[series] = None
        # Not before all are taken: ledgers know them already, but an earlier candle may come last.
        for series in taken:
            self._release(series)

    def _release(self, series: SeriesName) -> None:
        """Send what is held if the candles before it do not come, or not soon."""
        feed = self._feeds[series]
        while (awaited := feed.order.awaited) is not None:
            since = self._held.setdefault(series, trio.current_time())
            self._are_held.set()
            if trio.current_time() < since + HELD_S and self._will_come(series, *awaited):
                return
            feed.send(feed.order.skip())
        self._held.pop(series, None)

    def _will_come(self, series: SeriesName, first_ms: int, end_ms: int) -> bool:
        """Whether a candle that opens in [`first_ms`, `end_ms`) is not due yet, or missing."""
        subscription = self._subscription(series)
        if subscription is None:
            return False
        ledger = subscription.ledger
        return ledger.horizon_ms < end_ms or bool(ledger.gaps.within(first_ms, end_ms))

    def _subscription(self, series: SeriesName) -> Subscription | None:
        venue, symbol, interval = series
        running = self._venues.get(venue)
        if running is None:
            return None
        return running.registry.subscription(symbol, Interval(interval))

    def _format(self, kline: Kline) -> EventFormat:
        running = self._venues.get(kline.venue)
        listings = (running.context.book.listings if running else None) or {}
        return EventFormat.of(listings.get(kline.symbol), VENUES[kline.venue])

    # Tasks

    async def release(self) -> NoReturn:
        """Send what is held in vain or for too long."""
        while True:
            await self._are_held.wait()
            self._are_held = trio.Event()
            while self._held:
                await trio.sleep(LOOK_EVERY_S)
                for series in [*self._held]:
                    self._release(series)

    # Log

    def _tell(self, text: str) -> bool:
        """Whether the log has no line of the stream called `text` yet."""
        if text in self._told or len(self._told) >= MOST_TOLD:
            return False
        self._told[text] = None
        return True

    def _tell_how_to_add(self, name: StreamName, series: Sequence[SeriesName]) -> None:
        if self._tell(name.text):
            default = self._venues.default
            usual = [each for each in series if each[0] == default.name]
            venue, symbol, interval = (usual or series)[0]
            hint = how_to_add(VENUES[venue], symbol, interval, default)
            log.info("stream_not_recorded", stream=name.text, hint=hint)


@asynccontextmanager
async def open_streams(
    venues: Venues, counts: StreamCounts | None = None
) -> AsyncIterator[StreamHub]:
    """Open a hub without clients, which are counted; leaving the block closes their sockets."""
    hub = StreamHub(venues, counts or StreamCounts())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.soon.run)
        nursery.start_soon(hub.later.run)
        nursery.start_soon(hub.release)
        try:
            yield hub
        finally:
            hub.close()
        nursery.cancel_scope.cancel(reason="the streams are closed")
