"""A market with events: symbols halt, are listed and delisted.

Events take effect at the next full minute and never change the past, so a database can be compared
with the market at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from attrs import define, evolve, field

from klineagent.twin.interval import DAY_MS, MINUTE_MS, TwinInterval
from klineagent.twin.market.candle import Candle, flat
from klineagent.twin.market.market import Listing, Market
from klineagent.twin.market.quarterlies import as_listed
from klineagent.twin.venues import VenueRules

# How far back the last price before a halt is searched; an archive may have gaps.
_PRICE_WITHIN_MS = DAY_MS
# The announced listing date of a symbol that is not listed yet.
_LISTED_WITHIN_MS = 30 * DAY_MS


@define(eq=False)
class _Halt:
    """A span of full minutes without trades; `until_ms` is None while it lasts."""

    since_ms: int
    is_flat: bool
    status: str | None
    until_ms: int | None = None

    def covers(self, open_ms: int) -> bool:
        return self.since_ms <= open_ms and (self.until_ms is None or open_ms < self.until_ms)


def _tupled(symbols: Iterable[str]) -> tuple[str, ...]:
    return tuple(symbols)


@define(eq=False)
class EventfulMarket:
    """Another market with events on top; see `Market`.

    An exchange that trades it sets its clock (`follow`). `unlisted` symbols have no candles until
    they are listed.
    """

    _market: Market
    unlisted: tuple[str, ...] = field(default=(), kw_only=True, converter=_tupled)
    injected: Counter[str] = field(init=False, factory=Counter)
    """How often each kind of event has been injected."""
    _now_ms: Callable[[], int] = field(init=False)
    _symbols: dict[str, Listing] = field(init=False)
    _halts: dict[str, list[_Halt]] = field(init=False, factory=dict)
    # By symbol, ascending: from when on it trades or does not.
    _turns: dict[str, list[tuple[int, bool]]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._now_ms = lambda: self._market.start_ms
        self._symbols = {listing.symbol: listing for listing in self._market.listings}
        self._check(self.unlisted)

    def follow(self, now_ms: Callable[[], int], injected: Counter[str]) -> None:
        """Use the clock of an exchange, and its counter of injected events."""
        self._now_ms = now_ms
        injected.update(self.injected)
        self.injected = injected

    # Events.

    @contextmanager
    def halting(
        self, symbols: Iterable[str], *, flat: bool = False, status: str | None = None
    ) -> Iterator[None]:
        """Halt `symbols` until the end of the minute in which the block ends.

        Args:
            symbols: the symbols that do not trade.
            flat: whether they have flat candles, as on futures, or none, as on spot.
            status: their status in exchangeInfo meanwhile; None for no change.
        """
        halt = _Halt(self._next_edge(), flat, status)
        symbols = tuple(dict.fromkeys(symbols))
        self._check(symbols)
        self.injected["halting"] += len(symbols)
        for symbol in symbols:
            self._halts.setdefault(symbol, []).append(halt)
        try:
            yield
        finally:
            halt.until_ms = self._next_edge()

    def halt_past(self, symbol: str, since_ms: int, until_ms: int, *, flat: bool = False) -> None:
        """Let there have been a halt before now; only before that time is read.

        Raises:
            ValueError: it is not over.
        """
        self._check([symbol])
        if not since_ms < until_ms <= self._now_ms():
            raise ValueError(f"a past halt ends before now: {since_ms} to {until_ms}")
        self.injected["halt_past"] += 1
        self._halts.setdefault(symbol, []).append(_Halt(since_ms, flat, None, until_ms))

    def delist(self, symbol: str) -> None:
        """Delist `symbol`; its history remains."""
        self._turn("delist", symbol, trades=False)

    def list(self, symbol: str) -> None:
        """List `symbol`, for the first time or again."""
        self._turn("list", symbol, trades=True)

    # The market.

    @property
    def listings(self) -> tuple[Listing, ...]:
        """See `Market`; includes symbols that are not listed yet or are delisted."""
        return self._market.listings

    @property
    def start_ms(self) -> int:
        """See `Market`."""
        return self._market.start_ms

    @property
    def end_ms(self) -> int | None:
        """See `Market`."""
        return self._market.end_ms

    @property
    def tick_ms(self) -> int | None:
        """See `Market`."""
        return self._market.tick_ms

    def minute(self, symbol: str, open_ms: int) -> Candle | None:
        """See `Market`; pure for minutes up to the exchange's clock."""
        if symbol in self._turns or symbol in self.unlisted:
            turn = self._last_turn(symbol, open_ms)
            if not (symbol not in self.unlisted if turn is None else turn[1]):
                return None
        candle = self._market.minute(symbol, open_ms)
        if candle is None or symbol not in self._halts:
            return candle
        halts = [halt for halt in self._halts[symbol] if halt.covers(open_ms)]
        if not halts:
            return candle
        price = None
        if all(halt.is_flat for halt in halts):
            price = self._price_before(symbol, min(halt.since_ms for halt in halts))
        return None if price is None else flat(open_ms, price)

    def life_ms(self, listing: Listing) -> tuple[int, int]:
        """The time span in which a listing has candles so far; the end is not included."""
        turns = self._turns.get(listing.symbol, [])
        since_ms, until_ms = listing.onboard_ms, listing.delivery_ms
        if listing.symbol in self.unlisted:
            since_ms = turns[0][0] if turns else until_ms
        if turns and not turns[-1][1]:
            until_ms = min(until_ms, turns[-1][0])
        return since_ms, until_ms

    def halts_throughout(self, symbol: str, since_ms: int, until_ms: int) -> bool:
        """Whether one halt leaves a time span without any candle."""
        return any(
            halt.covers(since_ms) and halt.covers(until_ms - MINUTE_MS) and not halt.is_flat
            for halt in self._halts.get(symbol, ())
        )

    def as_listed(self, venue: VenueRules, listing: Listing, now_ms: int) -> Listing | None:
        """`listing` as exchangeInfo of `venue` shows it at `now_ms`; None if it does not."""
        symbol, shown = listing.symbol, as_listed(listing, now_ms)
        if shown is None:
            return None
        listing = shown
        turn = self._last_turn(symbol, now_ms)
        if turn is None:
            if symbol not in self.unlisted:
                return self._as_halted(listing, now_ms)
            onboard_ms = self._market.start_ms + _LISTED_WITHIN_MS
            return evolve(listing, status=venue.pending_status, onboard_ms=onboard_ms)
        first_traded_ms = self._turns[symbol][0][0]
        if symbol in self.unlisted:
            listing = evolve(listing, onboard_ms=first_traded_ms)
        since_ms, trades = turn
        if trades:
            return self._as_halted(listing, now_ms)
        return evolve(listing, status=venue.delisted_status, delivery_ms=since_ms)

    def _as_halted(self, listing: Listing, now_ms: int) -> Listing:
        for halt in self._halts.get(listing.symbol, ()):
            if halt.status is not None and halt.covers(now_ms):
                return evolve(listing, status=halt.status)
        return listing

    def _next_edge(self) -> int:
        # The current minute may have been sent already, and must not change.
        return TwinInterval.M1.open_at(self._now_ms()) + MINUTE_MS

    def _check(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            if symbol not in self._symbols:
                raise ValueError(f"{symbol} is not in this market")

    def _turn(self, kind: str, symbol: str, *, trades: bool) -> None:
        self._check([symbol])
        turns = self._turns.setdefault(symbol, [])
        if trades is (turns[-1][1] if turns else symbol not in self.unlisted):
            raise ValueError(f"{symbol} {'trades' if trades else 'does not trade'} already")
        turns.append((self._next_edge(), trades))
        self.injected[kind] += 1

    def _last_turn(self, symbol: str, time_ms: int) -> tuple[int, bool] | None:
        for turn in reversed(self._turns.get(symbol, ())):
            if turn[0] <= time_ms:
                return turn
        return None

    def _price_before(self, symbol: str, edge_ms: int) -> int | None:
        """The last price before a halt."""
        for open_ms in range(edge_ms - MINUTE_MS, edge_ms - _PRICE_WITHIN_MS, -MINUTE_MS):
            candle = self.minute(symbol, open_ms)
            if candle is not None:
                return candle.close
        return None
