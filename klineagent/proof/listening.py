"""A program that listens to all streams of the running agent; each candle it hears is true."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import Any, NoReturn

import trio
from attrs import define, field
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from klineagent.agent import Agent
from klineagent.core.interval import Interval, opens_in
from klineagent.exchange.venues import VENUES
from klineagent.exchange.wire import stream_name
from klineagent.proof.market_answers import MarketAnswers, are_same_float
from klineagent.proof.plan import ProofFailed
from klineagent.reading.streams.hub import HELD_S, StreamHub, open_streams
from klineagent.reading.streams.outbox import Outbox
from klineagent.series.subscription import Subscription
from klineagent.series.venues import Venues

LOOKS_EVERY_S = 300.0
# Candles that are fetched within days are looked for when their fault is over, not ever after.
MOST_LOOKED_AT = 500
# Of a row of the exchange: open, high, low, close, volume, quote volume, and what takers bought.
_IN_ROWS = (1, 2, 3, 4, 5, 7, 9, 10)
_IN_EVENTS = "ohlcvqVQ"


@define(eq=False)
class _Ear:
    """What was heard of one series, as long as one subscription lasts."""

    subscription: Subscription | None = None
    newest_ms: int = 0
    closed: set[int] = field(factory=set)

    def hear(self, candle: dict[str, Any]) -> str:
        """Take a state; return why it must not come, or nothing."""
        open_ms = candle["t"]
        if open_ms in self.closed:
            return "the candle has closed before"
        if candle["x"]:
            self.closed.add(open_ms)
        elif open_ms < self.newest_ms:
            return "a newer candle has come before"
        self.newest_ms = max(self.newest_ms, open_ms)
        return ""

    def unheard(self) -> set[int]:
        """Return the candles since the first one heard that the agent has and did not tell."""
        if self.subscription is None or not self.closed:
            return set()
        ledger = self.subscription.ledger
        first_ms = max(
            min(self.closed), ledger.interval.shifted(ledger.horizon_ms, -MOST_LOOKED_AT)
        )
        opens = opens_in(first_ms, ledger.horizon_ms, ledger.interval.value)
        return {each for each in opens if each not in self.closed and ledger.has_closed(each)}


@define(eq=False, kw_only=True)
class ProofListener:
    """Listens to every stream of one venue, as a bot does that is connected all the time.

    Each closed candle comes once and has the exchange's numbers, none comes back after its end, and
    none that the agent has is left out.
    """

    venue_name: str
    symbols: tuple[str, ...]
    intervals: tuple[Interval, ...]
    answers: MarketAnswers
    counts: Counter[str] = field(factory=Counter, init=False)
    """Events, by what they told."""
    _ears: dict[tuple[str, str], _Ear] = field(factory=dict, init=False)
    _venues: Venues = field(init=False)
    _socket: Connection = field(init=False)
    _failure: ProofFailed | None = field(default=None, init=False)

    async def read(self, agent: Agent) -> NoReturn:
        """Listen to `agent` for ever.

        Raises:
            ProofFailed: an event is wrong, or one is missing.
        """
        self._ears, self._failure, self._venues = {}, None, agent.venues
        self._socket = Connection(ConnectionType.CLIENT)
        async with open_streams(agent.venues) as hub:
            with agent.bus.followed(hub):
                self._subscribe(hub)
                while self._failure is None:
                    await trio.sleep(LOOKS_EVERY_S)
                    await self._look()
        raise self._failure

    def _subscribe(self, hub: StreamHub) -> None:
        outbox = Outbox(
            soon=hub.soon.put,
            later=hub.later.put,
            send_now=self._hear,
            too_slow=lambda: None,
        )
        for symbol in self.symbols:
            for interval in self.intervals:
                name = stream_name(symbol, interval)
                hub.listen(outbox, name, [VENUES[self.venue_name]], is_combined=False)

    def _hear(self, frames: bytes) -> bytes:
        self._socket.receive_data(frames)
        texts = [event for event in self._socket.events() if isinstance(event, TextMessage)]
        for event in texts:
            candle = json.loads(event.data)["k"]
            ear = self._ear(candle["s"], candle["i"])
            fault = ear.hear(candle) or (self._fault(candle) if candle["x"] else "")
            if fault:
                self._fail(f"{fault}: {event.data}")
            self.counts["closed candles" if candle["x"] else "forming states"] += 1
        return b""

    def _ear(self, symbol: str, interval: str) -> _Ear:
        running = self._venues.get(self.venue_name)
        subscription = (
            None if running is None else running.registry.subscription(symbol, Interval(interval))
        )
        ear = self._ears.get((symbol, interval))
        if ear is None or ear.subscription is not subscription:
            ear = self._ears[symbol, interval] = _Ear(subscription)
        return ear

    def _fail(self, fault: str) -> None:
        self._failure = self._failure or ProofFailed(f"a stream of {self.venue_name}: {fault}")

    def _fault(self, candle: dict[str, Any]) -> str:
        """Return how a closed candle differs from the exchange's; empty if it does not."""
        time = str(candle["t"])
        query = {"symbol": candle["s"], "interval": candle["i"], "startTime": time, "endTime": time}
        rows = self.answers.rows(query, candle["T"] + 1)
        if len(rows) != 1:
            return "there is no such candle"
        row = json.loads(rows[0])
        pairs = zip(_IN_EVENTS, _IN_ROWS, strict=True)
        is_same = all(
            candle[one] == row[other] or are_same_float(candle[one], row[other])
            for one, other in pairs
        )
        return "" if is_same else f"instead of {row}"

    async def _look(self) -> None:
        late = {series: self._ear(*series).unheard() for series in [*self._ears]}
        # Some may wait for an earlier candle, or are on their way.
        await trio.sleep(HELD_S + 1)
        for series, opens in late.items():
            if lost := opens & self._ear(*series).unheard():
                self._fail(
                    f"{series} does not tell {len(lost)} candles that the agent has:"
                    f" {[*islice(sorted(lost), 3)]}"
                )
