"""The venue's symbols, refreshed every minute: which of them may be subscribed.

The exchange acknowledges a subscription to an unknown symbol and then sends nothing, so symbols are
checked here before they are subscribed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn

import structlog
import trio
from attrs import define, field, frozen

from klineagent.core.errors import ExchangeError, InvalidRequest, NotTrading
from klineagent.core.interval import SECOND_MS
from klineagent.core.retry import Backoff, Burst, Trouble
from klineagent.exchange.rest import RestClient
from klineagent.exchange.rest_answers import SymbolInfo, SymbolList

# The longest retry delay: an exchange that is back should be noticed soon. The REST client applies
# its limits.
RETRY_WITHIN_S = 5.0
# One request of weight 1 (spot: 20 of 6000) a minute; a new listing is known a minute later.
REFRESH_EVERY_S = 60.0
# An answer may be cut short. A symbol is gone when so many lists in a row do not name it: delisted
# symbols are named for months. A list that names less than half of the symbols does not count.
GONE_AFTER_LISTS = 3

log = structlog.get_logger()


@frozen
class TradingHalt:
    """A time in which a symbol did not trade, as far as the lists show, by the exchange's clock."""

    since_ms: int
    """When the last list with the symbol trading was requested; 0 if there was none."""
    until_ms: int
    """When the first list with the symbol trading again came, or else the newest list."""


@define(eq=False)
class SymbolBook:
    """Keeps the symbols of a venue, at most a minute old.

    A symbol that a list names is updated at once; one that lists do not name is removed only after
    `GONE_AFTER_LISTS` of them.
    """

    _rest: RestClient
    _symbols: dict[str, SymbolInfo] = field(factory=dict, init=False)
    _unnamed: dict[str, int] = field(factory=dict, init=False)
    """Symbols that the last lists did not name, and the number of those lists."""
    _halts: dict[str, TradingHalt] = field(factory=dict, init=False)
    """The last halt of each symbol that does not trade, or did not for a while since the start."""
    _asked_at: float = field(default=0.0, init=False)
    """When the last list was requested."""
    _cuts: Burst = field(factory=lambda: Burst("symbols_lacking"), init=False)
    _loaded: trio.Event = field(factory=trio.Event, init=False)
    _refreshed: trio.Event = field(factory=trio.Event, init=False)
    odd_names: frozenset[str] = field(default=frozenset(), init=False)
    """The symbols that the newest list names, and that could not be read of it."""
    obstacle: str = field(default="", init=False)
    """Why the last attempt to load the symbols failed; empty if it did not."""

    @property
    def is_loaded(self) -> bool:
        """Whether the symbols were ever loaded."""
        return self._loaded.is_set()

    @property
    def listings(self) -> Mapping[str, SymbolInfo] | None:
        """All symbols by name, trading or not; None until they were loaded once."""
        return self._symbols if self._loaded.is_set() else None

    async def loaded(self) -> None:
        """Wait until the symbols were loaded once; the caller sets the deadline."""
        await self._loaded.wait()

    async def refreshed(self) -> None:
        """Wait until the symbols are loaded the next time."""
        await self._refreshed.wait()

    async def check(self, symbol: str) -> None:
        """Check that `symbol` trades; waits for the symbols, the caller sets the deadline.

        Raises:
            InvalidRequest: the venue does not have `symbol`.
            NotTrading: `symbol` does not trade at the moment.
        """
        await self._loaded.wait()
        venue = self._rest.venue.name
        if (info := self._symbols.get(symbol)) is None:
            raise InvalidRequest(f"symbol: {symbol} does not exist on {venue}")
        if not info.is_trading:
            raise NotTrading(f"symbol: {symbol} does not trade on {venue} ({info.status})")

    async def until_trading(self, symbol: str) -> None:
        """Wait until `symbol` trades, however long a maintenance or a halt takes.

        Raises:
            InvalidRequest: the venue does not have `symbol`.
        """
        is_logged = False
        while True:
            try:
                await self.check(symbol)
            except NotTrading as error:
                if not is_logged:
                    log.warning("symbol_not_trading", symbol=symbol, reason=str(error))
                is_logged = True
                await self._refreshed.wait()
            else:
                return

    def trades(self, symbol: str) -> bool:
        """Whether `symbol` trades; True before the first list, False once lists name it no more."""
        info = self._symbols.get(symbol)
        return not self.is_loaded if info is None else info.is_trading

    def halt(self, symbol: str) -> TradingHalt | None:
        """Return when `symbol` last did not trade, if it is known; the halt may still last."""
        return self._halts.get(symbol)

    def listed_ms(self, symbol: str) -> int:
        """Return when `symbol` was listed, in milliseconds; 0 if it is not known."""
        info = self._symbols.get(symbol)
        return 0 if info is None else info.onboard_ms

    def _take(self, listed: SymbolList, asked_at: float) -> None:
        """Update the symbols from a list; those that it does not name are kept for a while."""
        before = self._symbols
        unnamed = self._symbols.keys() - listed.symbols.keys() - listed.odd_names
        is_cut_short = 2 * len(listed.symbols) < len(self._symbols)
        lists = {name: self._unnamed.get(name, 0) + (not is_cut_short) for name in unnamed}
        self._unnamed = {name: count for name, count in lists.items() if count < GONE_AFTER_LISTS}
        if self._unnamed:
            self._cuts.happens(min(self._unnamed), len(self._unnamed))
        kept = self._unnamed.keys() | (listed.odd_names & self._symbols.keys())
        self._symbols = {name: self._symbols[name] for name in kept} | listed.symbols
        self.odd_names = listed.odd_names
        self._note_halts(before)
        self._asked_at = asked_at

    def _note_halts(self, before: Mapping[str, SymbolInfo]) -> None:
        """Note which symbols do not trade, or did not according to the list `before`."""
        now_ms = self._rest.time.now_ms()
        # Counted back from now, for the exchange's time may not have been known then.
        asked_ms = now_ms - round((trio.current_time() - self._asked_at) * SECOND_MS)
        for name, info in self._symbols.items():
            did_trade = before.get(name, info).is_trading
            if not (did_trade and info.is_trading):
                earlier = TradingHalt(asked_ms, now_ms) if did_trade else self._halts.get(name)
                since_ms = 0 if earlier is None else earlier.since_ms
                self._halts[name] = TradingHalt(since_ms, now_ms)

    async def keep_fresh(self) -> NoReturn:
        """Load the symbols now and every minute."""
        trouble = Trouble("symbols_unavailable", "symbols_available")
        backoff = Backoff(first_s=1, most_s=RETRY_WITHIN_S)
        while True:
            asked_at = trio.current_time()
            try:
                self._take(await self._rest.exchange_info(), asked_at)
            except ExchangeError as error:
                trouble.lasts(error)
                self.obstacle = str(error)
                wait_s = backoff.after()
            else:
                trouble.over()
                self.obstacle = ""
                if not self._loaded.is_set():
                    log.info("symbols_loaded", symbols=len(self._symbols))
                backoff = Backoff(first_s=1, most_s=RETRY_WITHIN_S)
                wait_s = REFRESH_EVERY_S
                self._loaded.set()
                self._refreshed.set()
                self._refreshed = trio.Event()
            await trio.sleep(wait_s)


@asynccontextmanager
async def open_symbols(rest: RestClient) -> AsyncIterator[SymbolBook]:
    """The symbols of a venue, asked for every minute as long as the block lasts."""
    symbols = SymbolBook(rest)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(symbols.keep_fresh)
        yield symbols
        nursery.cancel_scope.cancel(reason="no symbols are looked up any more")
